"""Break `actors/supervise.py` on purpose, one small change at a time; its unit tests must notice each.

`python -m benchmarks.mutate [--jobs 2]`

Comparisons are turned and moved by one, numbers changed, conditions negated, `and`/`or` swapped, arguments
of `replace(...)` left out.  Prints what survived; a survivor is a missing test, or a change without effect.
"""

import argparse
import ast
import concurrent.futures
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = Path("actors/supervise.py")
TESTS = "tests/unit/test_supervise.py"
TURNED = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}


def mutants(source):
    """Yield (line, what was changed, source) of every mutant."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    for index, node in enumerate(nodes):
        for what, change in changes(node):
            broken = copy.deepcopy(tree)
            target = list(ast.walk(broken))[index]
            change(target)
            text = ast.unparse(ast.fix_missing_locations(broken))
            yield getattr(node, "lineno", 0), what, text


def changes(node):
    """Yield (description, change to be applied to a copy of the node)."""
    if isinstance(node, ast.Compare):
        for other in TURNED.get(type(node.ops[0]), ()):
            yield (
                f"{ast.unparse(node)}: {other.__name__}",
                lambda n, o=other: n.ops.__setitem__(0, o()),
            )
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        for other in TURNED.get(type(node.op), ()):
            yield f"{ast.unparse(node)}: {other.__name__}", lambda n, o=other: setattr(n, "op", o())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"{ast.unparse(node)}: without not", lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield f"{node.value}: plus 1", lambda n: setattr(n, "value", n.value + 1)
    elif isinstance(node, ast.Constant) and node.value in (True, False):
        yield f"{node.value}: not", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "replace":
        for number, keyword in enumerate(node.keywords):
            yield (
                f"replace without {keyword.arg}={ast.unparse(keyword.value)}",
                lambda n, i=number: n.keywords.pop(i),
            )
    elif isinstance(node, ast.match_case) and node.guard is not None:
        yield f"case {ast.unparse(node.guard)}: no guard", lambda n: setattr(n, "guard", None)


def survives(text):
    """Return whether the tests do not notice."""
    folder = Path(tempfile.mkdtemp(prefix="mut"))
    try:
        for name in ("actors", "tests", "scheduling", "api"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / TARGET).write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TESTS],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=300,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    source = (ROOT / TARGET).read_text()
    every = list(mutants(source))
    if survives(ast.unparse(ast.parse(source))) is False:
        raise SystemExit("the tests fail without any change")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        alive = list(pool.map(lambda mutant: survives(mutant[2]), every))
    survivors = [(line, what) for (line, what, _), lives in zip(every, alive, strict=True) if lives]
    print(f"{len(every)} mutants, {len(every) - len(survivors)} noticed, {len(survivors)} survived")
    for line, what in survivors:
        print(f"  {TARGET}:{line}: {what}")
    print(json.dumps({"benchmark": "mutate", "mutants": len(every), "survivors": survivors}))


if __name__ == "__main__":
    main()
