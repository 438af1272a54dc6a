//! Which file of `src/` uses which, by its text: `use` declarations and paths, without comments, strings and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The path of a module from the crate's root: `["store", "layout"]`.
pub type Module = Vec<String>;

#[test]
fn every_declaration_of_a_type_is_seen() {
    for line in [
        "struct State;",
        "pub struct State(pub(crate) u64);",
        "pub type State = Box<dyn Fn(u8) -> bool>;",
        "pub(in crate::used) enum State<'a> {",
        "pub unsafe trait State {",
    ] {
        assert_eq!(declared(line).as_deref(), Some("State"), "{line}");
    }
    assert_eq!(declared("    type Item = State;"), None);
}

/// What one file says.
struct File {
    /// Names in its scope, and the paths that they stand for.
    names: BTreeMap<String, Vec<String>>,
    /// Paths that it uses, as written.
    paths: Vec<Vec<String>>,
    /// Names of the types and traits that it declares outside of macros.
    types: Vec<String>,
}

/// The files of a crate.
pub struct Crate {
    files: BTreeMap<Module, File>,
}

impl Crate {
    /// Reads all files below `src`.
    pub fn read(src: &Path) -> Crate {
        let mut texts = BTreeMap::new();
        collect(src, &Vec::new(), &mut texts);
        let mut tests = BTreeSet::new();
        let mut files = BTreeMap::new();
        for (module, text) in &texts {
            let (code, test_modules) = without_tests(&without_text(text));
            tests.extend(test_modules.into_iter().map(|name| below(module, &name)));
            files.insert(module.clone(), File::parse(&code));
        }
        files.retain(|module, _| {
            !(1..=module.len()).any(|n| tests.contains(&module[..n]))
                && module.last().is_none_or(|n| n != "tests")
        });
        Crate { files }
    }

    /// The files that declare each type.
    pub fn types(&self) -> BTreeMap<String, Vec<Module>> {
        let mut found: BTreeMap<String, Vec<Module>> = BTreeMap::new();
        for (module, file) in &self.files {
            file.types.iter().for_each(|name| found.entry(name.clone()).or_default().push(module.clone()));
        }
        found
    }

    /// The files that each file uses, but for itself. Where one only passes a name on (`pub use`), the file that has it is
    /// what is used.
    pub fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let of = |module: &Module, file: &File| {
            let targets = file.paths.iter().filter_map(|path| self.resolve(module, path, 8));
            targets.filter(|target| target != module && !target.is_empty()).collect()
        };
        self.files.iter().map(|(module, file)| (module.clone(), of(module, file))).collect()
    }

    /// The module whose file has what `path`, written in `module`, stands for; `None` for other crates.
    fn resolve(&self, module: &Module, path: &[String], depth: u32) -> Option<Module> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" | "testbox" => Vec::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            child if self.files.contains_key(&below(module, child)) => below(module, child),
            _ => return None,
        };
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                at.pop()?;
            } else if self.files.contains_key(&below(&at, next)) {
                at = below(&at, next);
            } else {
                let stands_for = self.files.get(&at)?.names.get(next).filter(|_| depth > 0);
                return stands_for.and_then(|path| self.resolve(&at, path, depth - 1)).or(Some(at));
            }
            rest = after;
        }
        Some(at)
    }
}

/// The name that a line declares as a type; an associated type does not stand at the beginning of its line.
fn declared(line: &str) -> Option<String> {
    let line = match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ")?.1,
        None => line.strip_prefix("pub ").unwrap_or(line),
    };
    let line = line.strip_prefix("unsafe ").unwrap_or(line);
    let kinds = ["struct ", "enum ", "union ", "trait ", "type "];
    let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

impl File {
    fn parse(code: &str) -> File {
        let types = code.lines().filter_map(declared).collect();
        let (mut names, mut paths, mut passed_on) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut rest = String::new();
        for statement in code.split_inclusive([';', '{', '}']) {
            // The braces of a `use` itself are put together below.
            rest.push_str(statement);
        }
        let mut code = String::new();
        let mut left = rest.as_str();
        while let Some((before, is_public, tree, after)) = next_use(left) {
            code.push_str(before);
            for (name, path) in expand(tree) {
                if is_public {
                    passed_on.push((name.clone(), path.clone()));
                } else {
                    paths.push(path.clone());
                }
                names.insert(name, path);
            }
            left = after;
        }
        code.push_str(left);
        let words: BTreeSet<String> = written_paths(&code).into_iter().flatten().collect();
        paths.extend(passed_on.into_iter().filter(|(name, _)| words.contains(name)).map(|(_, path)| path));
        paths.extend(written_paths(&code).into_iter().filter(|path| path.len() > 1));
        File { names, paths, types }
    }
}

/// The code of every file with its strings, up to its tests; files of tests are left out.
pub fn texts(src: &Path) -> Vec<(Module, String)> {
    let mut texts = BTreeMap::new();
    collect(src, &Vec::new(), &mut texts);
    texts.retain(|module, _| {
        !module.iter().any(|name| ["tests", "testing", "fixture", "property"].contains(&name.as_str()))
    });
    let code = |text: &str| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    let lines = |text: String| {
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    };
    texts.into_iter().map(|(module, text)| (module, lines(code(&text)))).collect()
}

fn below(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

fn collect(dir: &Path, module: &Module, texts: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            collect(&path, &below(module, name), texts);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let is_folder = ["lib", "mod"].contains(&name);
            let module = if is_folder { module.clone() } else { below(module, name) };
            texts.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The next `use` of a code: what is before it, whether it passes names on, its tree, what is after it.
fn next_use(code: &str) -> Option<(&str, bool, &str, &str)> {
    let mut from = 0;
    loop {
        let at = from + code[from..].find("use ")?;
        let line = &code[code[..at].rfind(['\n', ';', '}', '{']).map_or(0, |n| n + 1)..at];
        let line = line.trim();
        if line.is_empty() || line.starts_with("pub") {
            let end = at + code[at..].find(';')?;
            return Some((&code[..at], !line.is_empty(), &code[at + 4..end], &code[end + 1..]));
        }
        from = at + 4;
    }
}

/// The names that a `use` tree brings into scope, and their paths.
fn expand(tree: &str) -> Vec<(String, Vec<String>)> {
    let tree = tree.trim();
    if let Some((prefix, inner)) = tree.split_once('{') {
        let prefix: Vec<String> = segments(prefix);
        let inner = inner.trim_end().trim_end_matches('}');
        return split_at_commas(inner)
            .into_iter()
            .flat_map(expand)
            .map(|(name, path)| match path.as_slice() {
                [only] if only == "self" => (prefix.last().cloned().unwrap_or_default(), prefix.clone()),
                _ => (name, [&prefix[..], &path].concat()),
            })
            .collect();
    }
    let (path, alias) =
        tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let path = segments(path);
    let Some(last) = path.last() else { return Vec::new() };
    vec![(alias.map_or_else(|| last.clone(), str::to_owned), path)]
}

fn split_at_commas(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

/// All names and paths of names in a code.
fn written_paths(code: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !is_part(c)).map(segments).filter(|path| !path.is_empty()).collect()
}

/// The code without comments, strings and characters, whose braces and names mean nothing.
fn without_text(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |n| n + 2),
            'r' if rest.starts_with("r#\"") => rest[3..].find("\"#").map_or(rest.len(), |n| n + 5),
            '"' => string_length(rest),
            '\'' => char_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.push(' ');
            rest = &rest[skipped..];
        }
    }
    out
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character literal; 0 for a lifetime.
fn char_length(text: &str) -> usize {
    if text.starts_with("'\\") {
        return text[3..].find('\'').map_or(text.len(), |n| n + 4);
    }
    let mut chars = text.char_indices().skip(2);
    chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
}

/// The code without items that only tests have, and the names of modules among those that are files of their own.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut out, mut modules, mut rest) = (String::new(), Vec::new(), code);
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        out.push_str(before);
        let end = after.find([';', '{']).unwrap_or(after.len());
        let item = &after[..end];
        if after[end..].starts_with(';') {
            modules.extend(item.split_once("mod ").map(|(_, name)| name.trim().to_owned()));
            rest = &after[end + 1..];
        } else {
            rest = &after[end + block_length(&after[end..])..];
        }
    }
    out.push_str(rest);
    (out, modules)
}

fn block_length(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn uses_are_found_in_all_their_forms() {
    let code = "use crate::a::{self, b::{C, d}, E as F};\npub use x::Y;\n#[cfg(test)]\nmod t { use crate::no; }\n\
                fn f() { crate::g::h(); super::i() } // crate::no\nconst S: &str = \"crate::no {\";\n#[cfg(test)] mod u;";
    let (code, tests) = without_tests(&without_text(code));
    assert_eq!(tests, ["u"]);
    let file = File::parse(&code);
    let paths: Vec<String> = file.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        ["crate::a", "crate::a::b::C", "crate::a::b::d", "crate::a::E", "crate::g::h", "super::i"]
    );
    assert_eq!(file.names["F"], ["crate", "a", "E"]);
    assert_eq!(file.names["Y"], ["x", "Y"]);
}
