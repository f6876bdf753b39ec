#!/usr/bin/env bash
# One Kafka broker on localhost:9092, from its own jars: no Docker, no download page. It wants Java 17 and Maven, keeps
# everything in the folder that it is given (./kafka by default), and runs until Ctrl-C.
set -euo pipefail
folder=$(mkdir -p "${1:-kafka}" && cd "${1:-kafka}" && pwd)
port=${KAFKA_PORT:-9092}
version=4.1.0

if [ ! -d "$folder/jars" ]; then
    cat > "$folder/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>example</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version>
  </dependency></dependencies>
</project>
POM
    mvn -q -B -f "$folder/pom.xml" dependency:copy-dependencies -DoutputDirectory="$folder/jars.new"
    mv "$folder/jars.new" "$folder/jars"
fi

cat > "$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:$((port + 1))
listeners=PLAINTEXT://localhost:$port,CONTROLLER://localhost:$((port + 1))
advertised.listeners=PLAINTEXT://localhost:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
num.partitions=2
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
PROPERTIES

run() { java -Xmx512m -cp "$folder/jars/*" "$@"; }
[ -f "$folder/data/meta.properties" ] ||
    run kafka.tools.StorageTool format -t "$(run kafka.tools.StorageTool random-uuid)" -c "$folder/server.properties" > "$folder/format.log" 2>&1
echo "Kafka $version on localhost:$port; its log is $folder/kafka.log; Ctrl-C ends it"
run kafka.Kafka "$folder/server.properties" > "$folder/kafka.log" 2>&1
