"""Docstrings that a class gets by assignment or by inheritance, as `RandomBasesDescent` does, for the site.

The site reads sources without importing them, so that it needs no TensorFlow.
"""

import ast
import inspect

import griffe


class FoundDocstrings(griffe.Extension):
    """Gives a class without a docstring the string that its `__doc__` names, or its base's."""

    def on_package(self, *, pkg, **_):
        """Goes through all classes of a package."""
        self._visit(pkg)

    def _visit(self, module):
        for member in module.members.values():
            if member.is_alias:
                continue
            if member.is_module:
                self._visit(member)
            elif member.is_class and member.docstring is None:
                text = _assigned(member) or _inherited(member)
                if text:
                    member.docstring = griffe.Docstring(
                        inspect.cleandoc(text), parent=member, parser="google"
                    )


def _assigned(member):
    assignment = member.members.get("__doc__")
    if assignment is None or not isinstance(assignment.value, griffe.ExprName):
        return None
    named = member.modules_collection[assignment.value.canonical_path]
    return ast.literal_eval(str(named.value))


def _inherited(member):
    bases = (base for base in member.resolved_bases if base.docstring is not None)
    return next((base.docstring.value for base in bases), None)
