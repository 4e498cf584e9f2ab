"""The user's program as the control plane sees it: files to read and digest, never code to import."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from fl_core.bundle import bundle, bundle_digest
from fl_core.errors import ProgramError, SpecError
from job_generator.problems import Problem, nearest
from job_generator.schema import alternatives
from job_generator.spec import FLJob

FRAMEWORKS = {"paddle": "paddle", "torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}
"""Modules that tell which framework a program is written for."""
ENTRYPOINT = ("spec", "program", "entrypoint")
TYPES = {"dict", "list", "tuple", "set", "frozenset", "type"}
"""Names that make a type with brackets, such as `dict[str, float]`."""
VALUES = (
    ast.Constant,
    ast.JoinedStr,
    ast.Dict,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.DictComp,
    ast.ListComp,
    ast.SetComp,
)
"""Expressions that no function can come of."""


def program_digest(folder: Path, module: str) -> str | None:
    """Digest the program's files; None for an installed module, which no folder holds."""
    try:
        return bundle_digest(bundle(folder, module))
    except ProgramError:
        if not _installed(module):
            raise
        return None


def sealed(job: FLJob, folder: Path, *, uid: str | None = None) -> FLJob:
    """Bind the job to the program that lies in `folder`; refuses another digest than the job's own.

    A program that only the cluster has (`spec.program.source`) keeps the digest that its author gave.
    """
    program = job.spec.program
    try:
        digest = program_digest(folder, program.entrypoint.partition(":")[0])
    except ProgramError:
        if program.source is None:
            raise
        return job.identified(uid=uid or job.metadata.uid, program=program.sha256)
    if program.sha256 not in {None, digest}:
        raise SpecError(
            f"spec.program.sha256: {program.sha256} is not the digest of the program in {folder}, "
            f"which is {digest}; put the right files there, or leave the field out"
        )
    return job.identified(uid=uid or job.metadata.uid, program=digest)


def inspect(job: FLJob, folder: Path) -> Iterator[Problem]:
    """What can be seen to be wrong with the program without importing it."""
    module, _, function = job.spec.program.entrypoint.partition(":")
    try:
        files = bundle(folder, module)
    except ProgramError as error:
        if not _installed(module) and job.spec.program.source is None:
            told = str(error).removeprefix("spec.program.entrypoint: ")
            yield Problem(ENTRYPOINT, f"{told}{nearest(module, _modules(folder))}")
        return
    trees = {}
    for name, path in files.items():
        match _parsed(path):
            case ast.Module() as tree:
                trees[name] = tree
            case problem:
                yield problem
    entry = _module(trees, module)
    if entry is not None:
        yield from _function(entry, function, module=module)
    yield from _framework(job, [node for tree in trees.values() for node in ast.walk(tree)])


def _parsed(path: Path) -> ast.Module | Problem:
    """A file as Python reads it, or why it cannot."""
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return Problem(("spec", "program"), f"{path}{line}: this is not Python: {str(error) or 'too deep'}")


def _modules(folder: Path) -> list[str]:
    """What can be imported from a folder."""
    return sorted(
        path.stem for path in (*folder.glob("*.py"), *(init.parent for init in folder.glob("*/__init__.py")))
    )


def _installed(module: str) -> bool:
    top = module.partition(".")[0]
    return top != "__main__" and find_spec(top) is not None


def _module(trees: dict[str, ast.Module], module: str) -> ast.Module | None:
    place = module.replace(".", "/")
    return trees.get(f"{place}.py") or trees.get(f"{place}/__init__.py")


def _function(tree: ast.Module, name: str, *, module: str) -> Iterator[Problem]:
    """The function must be there and take a config and a site, as far as its `def` tells."""
    statements = list(_statements(tree))
    binding = [node for node in statements if _binds(node, name)]
    functions = [node.name for node in statements if isinstance(node, ast.FunctionDef)]
    there = _there(functions)
    last = binding[-1] if binding else None
    if last is None:
        near = nearest(name, functions)
        yield Problem(ENTRYPOINT, f"the module {module} has no function {name}{near}{there}")
    elif isinstance(last, ast.FunctionDef) and not last.decorator_list:
        yield from _parameters(last)
    elif isinstance(last, ast.Name) and any(_plain(node, last) for node in statements):
        what = f"line {last.lineno}: {name} is neither a function nor a class"
        yield Problem(ENTRYPOINT, f"{what}; expected one that is called as {name}(config, site){there}")


def _there(functions: Sequence[str]) -> str:
    if not functions:
        return ""
    return f"; there {'is' if len(functions) == 1 else 'are'} {alternatives(functions, last='and')}"


def _plain(node: ast.AST, name: ast.Name) -> bool:
    """Whether this statement gives the name what is plainly not to be called: a value, or an alias of a type."""
    match node:
        case (
            ast.Assign(targets=[*_, ast.Name() as bound], value=value)
            | ast.AnnAssign(target=ast.Name() as bound, value=value)
        ):
            alias = (
                isinstance(value, ast.Subscript)
                and isinstance(value.value, ast.Name)
                and value.value.id in TYPES
            )
            return bound is name and (alias or isinstance(value, VALUES))
    return type(node).__name__ == "TypeAlias" and name in ast.iter_child_nodes(node)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when the module is imported, also within `if` and `try`, in its order."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting += reversed(list(ast.iter_child_nodes(node)))


def _binds(node: ast.AST, name: str) -> bool:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return node.name == name
        case ast.Name(ctx=ast.Store()):
            return node.id == name
        case ast.alias():
            return (node.asname or node.name) in {name, "*"}
    return False


def _parameters(node: ast.FunctionDef) -> Iterator[Problem]:
    given = node.args
    most = len(given.posonlyargs) + len(given.args)
    least = most - len(given.defaults)
    named = any(default is None for default in given.kw_defaults)
    if least > 2 or named or (most < 2 and given.vararg is None):  # noqa: PLR2004 - config and site
        wanted, count = f"{node.name}(config, site)", most + len(given.kwonlyargs)
        yield Problem(
            ENTRYPOINT, f"line {node.lineno}: it is called as {wanted}, but takes {count} arguments"
        )


def _framework(job: FLJob, nodes: Sequence[ast.AST]) -> Iterator[Problem]:
    """A program that imports another framework than the job names would run in the wrong image."""
    declared = job.spec.program.framework
    imported = {name.partition(".")[0] for node in nodes for name in _imports(node)}
    found = sorted(FRAMEWORKS[name] for name in imported & set(FRAMEWORKS))
    if declared in {"paddle", "sklearn"} and found and declared not in {*found, *imported}:
        where = ("spec", "program", "framework")
        yield Problem(where, f"is {declared}, but the program imports {alternatives(found, last='and')}")


def _imports(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(name)):
            yield name
