"""The page's files: which are sent, and how its modules become one script."""

import pytest

from SegWithUCore.web.static_files import joined_script, static_files


def write(folder, **modules):
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")


def test_only_files_named_as_the_pages_own_are_sent(tmp_path):
    for name in ("index.html", "main.js", "style.css", "Secret.js", "a.py", ".hidden.js", "x.js.map"):
        (tmp_path / name).write_text("x")
    assert set(static_files(tmp_path)) == {"index.html", "main.js", "style.css"}


def test_modules_are_joined_after_those_that_they_import_and_once(tmp_path):
    write(
        tmp_path,
        main='import { one } from "./a.js";\nimport {\n  two,\n  three,\n} from "./b.js";\none(two);\n',
        a='import { two } from "./b.js";\nexport async function one(x) {}\n',
        b="export const two = 2;\nexport class three {}\nlet hidden = 1;\n",
    )
    script = joined_script(tmp_path)
    assert script.index("const two = 2") < script.index("async function one") < script.index("one(two);")
    assert script.count("const two = 2") == 1
    assert "import" not in script and "export" not in script
    assert script.startswith('"use strict";\n(() => {\n')


@pytest.mark.parametrize(
    ("modules", "why"),
    [
        ({"main": 'import { a } from "./main.js";\n'}, "main.js > main.js is a circle"),
        ({"main": 'import { a } from "./b.js";\nconst x = 1;', "b": "export const x = 2;"}, "both declare 'x'"),
        ({"main": 'import * as a from "./b.js";\n', "b": ""}, "cannot be joined"),
        ({"main": 'import { a as c } from "./b.js";\n', "b": "export const c = 2;"}, "cannot be joined"),
        ({"main": "export default 5;\n"}, "cannot be joined"),
        ({"main": 'export { a } from "./b.js";\n', "b": ""}, "cannot be joined"),
        ({"main": 'import x from "https://elsewhere/x.js";\n'}, "cannot be joined"),
    ],
)
def test_what_cannot_be_joined_is_said(tmp_path, modules, why):
    write(tmp_path, **modules)
    with pytest.raises(ValueError, match=why):
        joined_script(tmp_path)
