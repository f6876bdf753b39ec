"""Requests and answers of the API, all of them; the OpenAPI document is made from these."""
