"""What decides whether one version's partial matches can go on under another."""

from __future__ import annotations

import hashlib

from ostinato.patterns.typecheck import CheckedPattern


def structure(checked: CheckedPattern, max_states: int | None = None) -> str:
    """A digest of the stream that a pattern reads, its states and the ways between them; equal where partial matches
    can go on. Compiles it.

    Raises:
        MalformedPatternError: it is beyond what the automaton can hold, or has more than `max_states` states.
    """
    from ostinato.cep.nfa.build import MAX_STATES
    from ostinato.cep.nfa.compile import compile_patterns
    from ostinato.cep.nfa.header import atoms_of, structure_of

    compiled = compile_patterns([checked], max_states=min(max_states or MAX_STATES, MAX_STATES))
    shape = f"{checked.stream.name} {structure_of(compiled, 0)}"
    if 0 in compiled.linear:
        # what is counted is kept by the outcomes of the conditions
        shape += repr([str(atom) for atom in atoms_of(compiled, 0)])
    return hashlib.sha256(shape.encode()).hexdigest()[:16]
