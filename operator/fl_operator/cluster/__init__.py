"""Everything between the Kubernetes API and the operator; no other module of it imports `kubernetes`.

Objects are plain dictionaries as the API writes them; what is wrong comes as an error of `errors.py`.
"""
