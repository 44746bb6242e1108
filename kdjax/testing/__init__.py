"""The laws that every technique keeps, for terms of your own, in a test of your own:

from kdjax.testing import laws

def test_laws():
    laws(MyTerm)
"""

from kdjax.testing.suite import laws as laws
