"""Hold every use of a vendor's module in our sources against the real module.

A script, because each version of the bindings needs a process, and Python 3.10 for some:

    python binding_check.py tensorrt_bindings SOURCE...

It prints JSON: the module's version, what was checked, and the problems. A small type
inference over the syntax tree finds what each use is about. It knows that

- `trt` is the module, also as an attribute (`library.trt`);
- an annotation `tensorrt.X` says what a parameter, a result, a variable or an attribute is;
- what a call returns and how many arguments it takes, from the signature that pybind11 writes
  into a docstring;
- a function whose name ends in `_rtx` is for TensorRT-RTX alone.

A member's name, such as `execute_async_v3`, on something of unknown type is a problem too, so
that nothing goes unchecked.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docstring_signatures import fits, signatures

MODULE = "trt"  # name of the module in our sources
ANNOTATION = "tensorrt"  # and in their annotations


@dataclass(frozen=True)
class Object:
    """Something that exists in the module: the module, a class, a function, an enum member."""

    value: Any
    label: str


@dataclass(frozen=True)
class Instance:
    """An object of a class of the module."""

    kind: type


@dataclass(frozen=True)
class Method:
    """A method of such an object."""

    kind: type
    name: str


@dataclass(frozen=True)
class Items:
    """A sequence."""

    of: Any


class Check:
    """The uses of one module in a number of sources."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.is_rtx = module.__name__.startswith("tensorrt_rtx")
        self.checked: set[str] = set()
        self.problems: list[str] = []
        self.returns: dict[str, Any] = {}  # our own functions
        classes = [value for value in vars(module).values() if isinstance(value, type)]
        names = {name for kind in classes for name in dir(kind) if not name.startswith("_")}
        self.telling = {name for name in names if "_" in name}

    def problem(self, node: ast.AST, text: str) -> None:
        self.problems.append(f"{self.source}:{getattr(node, 'lineno', '?')}: {text}")

    def read(self, source: Path) -> None:
        """Check one file."""
        self.source = source.name
        tree = ast.parse(source.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                self.returns[node.name] = self.annotated(node.returns)
        attributes = {
            node.target.attr: self.annotated(node.annotation)
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute)
        }
        Scope(self, {}, attributes).block(tree.body)

    def annotated(self, node: ast.expr | None) -> Any:
        """Return the type that an annotation names, if it is one of the module."""
        if not isinstance(node, ast.Attribute):
            return None
        if isinstance(node.value, ast.Name):
            if node.value.id != ANNOTATION:
                return None
            found = self.member(node, self.module, node.attr, node.attr)
        elif isinstance(node.value, ast.Attribute):
            outer = self.annotated(node.value)
            if outer is None:
                return None
            label = f"{outer.kind.__name__}.{node.attr}"
            found = self.member(node, outer.kind, node.attr, label)
        else:
            return None
        return Instance(found.value) if found and isinstance(found.value, type) else None

    def member(self, node: ast.AST, owner: Any, name: str, label: str) -> Object | None:
        if not hasattr(owner, name):
            self.problem(node, f"{self.module.__name__} has no {label}")
            return None
        self.checked.add(label)
        return Object(getattr(owner, name), label)

    def called(self, node: ast.Call, function: Any, label: str, *, bound: bool) -> Any:
        """Check the arguments of a call and return the type of its result."""
        keywords = {word.arg for word in node.keywords}
        if any(isinstance(argument, ast.Starred) for argument in node.args) or None in keywords:
            self.problem(node, f"{label} is called with * or **, which cannot be checked")
            return None
        skip = 1 if bound else 0  # self
        found = [(parameters[skip:], result) for parameters, result in signatures(function)]
        if not found:
            self.problem(node, f"{label} has no signature to check against")
        for parameters, result in found:
            if fits(parameters, len(node.args), keywords):
                return self.result(result)
        if found:
            takes = "; ".join(", ".join(name for name, _ in names) for names, _ in found)
            given = len(node.args) + len(keywords)
            self.problem(node, f"{label} takes ({takes}), not {given} arguments {sorted(keywords)}")
        return None

    def result(self, text: str) -> Any:
        listed = re.fullmatch(r"[Ll]ist\[(.*)\]", text)
        if listed:
            return Items(self.result(listed.group(1)))
        kind = getattr(self.module, re.split(r"[.:]", text)[-1], None)
        return Instance(kind) if isinstance(kind, type) else None


class Scope:
    """Names of one function, or of a module's top level, and the types they have."""

    def __init__(self, check: Check, names: dict[str, Any], attributes: dict[str, Any]) -> None:
        self.check = check
        self.names = names
        self.attributes = attributes

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef):
            self.function(node)
        elif isinstance(node, ast.ClassDef):
            self.klass(node)
        elif isinstance(node, ast.Assign):
            kind = self.infer(node.value)
            for target in node.targets:
                self.assign(target, kind)
        elif isinstance(node, ast.AnnAssign):
            kind = self.infer(node.value) if node.value else None
            self.assign(node.target, self.check.annotated(node.annotation) or kind)
        elif isinstance(node, ast.For):
            self.loop(node.target, node.iter)
            self.block(node.body + node.orelse)
        else:
            self.others(node)

    def others(self, node: ast.AST) -> None:
        """Go into what has no rule of its own, in order."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self.statement(child)
            elif isinstance(child, ast.expr):
                self.infer(child)
            else:
                self.others(child)

    def function(self, node: ast.FunctionDef) -> None:
        if node.name.endswith("_rtx") and not self.check.is_rtx:
            return
        inner = Scope(self.check, dict(self.names), self.attributes)
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            inner.names[argument.arg] = self.check.annotated(argument.annotation)
        inner.block(node.body)

    def klass(self, node: ast.ClassDef) -> None:
        bases = [self.infer(base) for base in node.bases]
        for base in bases:
            if isinstance(base, Object) and isinstance(base.value, type):
                self.overrides(node, base.value)
        Scope(self.check, dict(self.names), self.attributes).block(node.body)

    def overrides(self, node: ast.ClassDef, base: type) -> None:
        """See that what TensorRT will call takes what it gives."""
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name != "__init__":
                label = f"{base.__name__}.{method.name}"
                found = self.check.member(method, base, method.name, label)
                takes = len(method.args.args)
                if found and all(len(names) != takes for names, _ in signatures(found.value)):
                    self.check.problem(method, f"{label} is overridden with {takes} parameters")

    def assign(self, target: ast.expr, kind: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = kind
        elif isinstance(target, ast.Tuple):
            for element in target.elts:
                self.assign(element, None)
        elif isinstance(target, ast.Attribute):
            owner = self.infer(target.value)
            if isinstance(owner, Instance):
                self.attribute(target, owner, setting=True)
            else:
                self.untyped(target, owner)

    def loop(self, target: ast.expr, iterated: ast.expr) -> None:
        kind = self.infer(iterated)
        self.assign(target, kind.of if isinstance(kind, Items) else None)

    def infer(self, node: ast.expr) -> Any:
        """Return what an expression is about, having checked every part of it."""
        if isinstance(node, ast.Name):
            if node.id == MODULE:
                return Object(self.check.module, "")
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return self.dotted(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
            inner = Scope(self.check, dict(self.names), self.attributes)
            for clause in node.generators:
                inner.loop(clause.target, clause.iter)
                for condition in clause.ifs:
                    inner.infer(condition)
            return Items(inner.infer(node.elt))
        if isinstance(node, (ast.List, ast.Tuple)):
            kinds = [self.infer(element) for element in node.elts]
            return Items(kinds[0]) if kinds else None
        if isinstance(node, (ast.Starred, ast.Subscript)):
            inner_kind = self.infer(node.value)
            if isinstance(node, ast.Subscript):
                self.infer(node.slice)
            return inner_kind.of if isinstance(inner_kind, Items) else None
        self.others(node)
        return None

    def dotted(self, node: ast.Attribute) -> Any:
        owner = self.infer(node.value)
        if owner is None and node.attr == MODULE:
            return Object(self.check.module, "")
        if isinstance(owner, Object):
            label = f"{owner.label}.{node.attr}" if owner.label else node.attr
            return self.check.member(node, owner.value, node.attr, label)
        if isinstance(owner, Instance):
            return self.attribute(node, owner, setting=False)
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self.attributes.get(node.attr)
        self.untyped(node, owner)
        return None

    def untyped(self, node: ast.Attribute, owner: Any) -> None:
        if owner is None and node.attr in self.check.telling:
            self.check.problem(node, f".{node.attr} of something whose type is not known")

    def attribute(self, node: ast.Attribute, owner: Instance, *, setting: bool) -> Any:
        label = f"{owner.kind.__name__}.{node.attr}"
        found = self.check.member(node, owner.kind, node.attr, label)
        if found is None:
            return None
        if isinstance(found.value, property):
            if setting and found.value.fset is None:
                self.check.problem(node, f"{label} cannot be set")
            return None
        if setting:
            self.check.problem(node, f"{label} is a method, not a property")
        return Method(owner.kind, node.attr)

    def call(self, node: ast.Call) -> Any:
        function = self.infer(node.func)
        for argument in [*node.args, *(word.value for word in node.keywords)]:
            self.infer(argument)
        if isinstance(function, Method):
            label = f"{function.kind.__name__}.{function.name}"
            return self.check.called(node, getattr(function.kind, function.name), label, bound=True)
        if isinstance(function, Object) and isinstance(function.value, type):
            self.check.called(node, function.value.__init__, function.label, bound=True)
            return Instance(function.value)
        if isinstance(function, Object):
            # On a class, as in `trt.IProfiler.__init__(self)`, self is given by hand.
            return self.check.called(node, function.value, function.label, bound=False)
        if isinstance(node.func, ast.Name):
            return self.check.returns.get(node.func.id)
        return None


def main() -> None:
    name, *sources = sys.argv[1:]
    module = importlib.import_module(name)
    check = Check(module)
    for source in sources:
        check.read(Path(source))
    facts = {"version": module.__version__, "checked": sorted(check.checked)}
    print(json.dumps({**facts, "problems": check.problems}))


if __name__ == "__main__":
    main()
