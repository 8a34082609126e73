//! House rules that a program can check (CONTRIBUTING.md, "Style"): what the compiler and clippy
//! do not know about. Each rule is a function over text, with an example that it must catch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules of `src/`, low to high. A module names only modules of the rows above its own in this
/// table; modules of one row do not know each other.
const LAYERS: &[&[&str]] = &[
    &["id", "time", "limits", "rate", "reason", "sync"],
    &["metrics", "drain", "admission", "log"],
    &["outbox", "ws", "hub", "tls"],
    &["backplane"],
    &["auth"],
    &["protocol"],
    &["session"],
    &["worker"],
    &["admin"],
    &["http"],
    &["listen"],
    &["config"],
    &["server"],
    &["cli"],
];

/// The only files of `src/` and `loadtest/` that may hold unsafe code (style, section "Unsafe").
const UNSAFE_FILES: &[&str] =
    &["src/server/heap.rs", "src/worker/poller.rs", "src/worker/unacknowledged.rs"];

/// Product lines of one file, tests not counted.
const FILE_LINES_MAX: usize = 600;

/// Names that say nothing about what a module owns.
const MODULE_NAMES_REFUSED: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "misc"];

/// Wire words of single front doors; the house says topic, message, backplane.
const TYPE_WORDS_REFUSED: &[&str] = &["Channel", "Room", "Packet", "Broker"];

/// The first versions without a known hole or fault that matters here. A crate need not be present.
const FLOORS: &[(&str, [u64; 3])] = &[
    ("aws-lc-sys", [0, 39, 0]),
    ("bytes", [1, 11, 1]),
    ("crossbeam-channel", [0, 5, 15]),
    ("jsonwebtoken", [10, 3, 0]),
    ("rustls", [0, 23, 18]),
    ("rustls-webpki", [0, 103, 13]),
    ("tokio", [1, 44, 2]),
    ("tracing-subscriber", [0, 3, 20]),
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[test]
fn files_stay_short() {
    assert_clean(sources().filter_map(|file| {
        let count = file.product().lines().count();
        (count > FILE_LINES_MAX)
            .then(|| format!("{}: {count} lines, split it by responsibility", file.name))
    }));
}

#[test]
fn modules_name_only_lower_layers() {
    let findings = sources().filter(|file| file.name.starts_with("src/")).flat_map(|file| {
        let module = file.module().to_owned();
        layer_faults(&module, file.product())
            .into_iter()
            .map(move |fault| format!("{}: {fault}", file.name))
    });
    assert_clean(findings);
}

#[test]
fn every_module_says_what_it_owns() {
    assert_clean(sources().filter(|file| !file.text.starts_with("//!")).map(|file| {
        format!("{}: begins without `//!`: what does it own, what must it never do?", file.name)
    }));
}

#[test]
fn module_names_say_something() {
    assert_clean(sources().filter(|file| has_refused_name(&file.name)).map(|file| file.name));
}

#[test]
fn no_test_is_ignored() {
    let mark = concat!("#[", "ignore");
    assert_clean(rust_files(".").filter(|file| file.text.contains(mark)).map(|file| {
        format!("{}: an ignored test is a bug nobody sees: mend it or remove it", file.name)
    }));
}

#[test]
fn every_limit_is_listed_with_tests_that_exist() {
    let listed = fs::read_to_string(root().join("SECURITY.md")).expect("the page");
    let words: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    let keys = fs::read_to_string(root().join("src/config/key.rs")).expect("the table of keys");
    let limits = keys.split('"').filter(|text| text.starts_with("limits."));
    let absent = limits.filter(|key| !words.contains(key));
    let tests: String = rust_files(".").map(|file| file.text).collect();
    // Names of tests have several words; nothing else on the page that is quoted does.
    let named = words.iter().filter(|word| word.matches('_').count() > 3 && !word.contains('{'));
    let missing = named.filter(|name| !name.contains('.') && !name.starts_with("fanwire_"));
    let missing = missing.filter(|name| !tests.contains(&format!("fn {name}(")));
    assert_clean(
        absent
            .map(|key| format!("SECURITY.md: nothing about {key}"))
            .chain(missing.map(|name| format!("SECURITY.md: there is no test {name}"))),
    );
}

#[test]
fn unsafe_code_is_only_where_it_is_listed() {
    assert_clean(
        sources()
            .filter(|file| has_unsafe(&file.text) && !UNSAFE_FILES.contains(&file.name.as_str()))
            .map(|file| format!("{}: unsafe code, but not in UNSAFE_FILES", file.name)),
    );
}

#[test]
fn types_carry_house_words() {
    let findings = sources().filter(|file| !file.is_in_a_door()).flat_map(|file| {
        type_names(file.product())
            .filter(|name| TYPE_WORDS_REFUSED.iter().any(|word| name.contains(word)))
            .map(|name| format!("{}: {name}", file.name))
            .collect::<Vec<_>>()
    });
    assert_clean(findings);
}

#[test]
fn no_path_of_a_machine_stands_in_the_tree() {
    assert_clean(tracked_files().into_iter().filter_map(|name| {
        let text = fs::read_to_string(root().join(&name)).ok()?; // not text: no path to read
        machine_path(&text).map(|path| format!("{name}: {path}"))
    }));
}

#[test]
fn dependencies_come_from_crates_io() {
    assert_clean(packages(&cargo_metadata()).iter().filter_map(|package| {
        let source = package["source"].as_str()?; // none: a member of this workspace
        (source != CRATES_IO).then(|| format!("{}: {source}", label(package)))
    }));
}

#[test]
fn dependencies_carry_allowed_licences() {
    let allowed = licences_allowed();
    assert_clean(packages(&cargo_metadata()).iter().filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or("no licence");
        (!licence_is_met(licence, &allowed)).then(|| format!("{}: {licence}", label(package)))
    }));
}

#[test]
fn dependencies_are_at_their_floors() {
    assert_clean(packages(&cargo_metadata()).iter().filter_map(|package| {
        let (_, floor) = FLOORS.iter().find(|(name, _)| package["name"] == *name)?;
        let version = version(package["version"].as_str()?);
        (version < *floor).then(|| format!("{} is under {floor:?}", label(package)))
    }));
}

#[test]
fn direct_dependencies_choose_their_features() {
    let metadata = cargo_metadata();
    let findings = packages(&metadata)
        .iter()
        .filter(|package| package["source"].is_null())
        .flat_map(|package| {
            let dependencies = package["dependencies"].as_array().expect("cargo lists them");
            dependencies
                .iter()
                .filter(|dependency| dependency["uses_default_features"] == true)
                .map(|dependency| format!("{}: {}", label(package), dependency["name"]))
        });
    assert_clean(findings);
}

#[test]
fn each_rule_catches_its_example() {
    assert_eq!(layer_faults("hub", "use crate::session::Session;").len(), 1, "a higher layer");
    assert_eq!(layer_faults("hub", "use crate::{id, worker::Turn, ws};").len(), 2, "grouped");
    assert_eq!(layer_faults("hub", "fn f(x: crate::ws::Frame) {}").len(), 1, "a neighbour");
    assert_eq!(layer_faults("stuff", "").len(), 1, "not in the table");
    assert_eq!(layer_faults("hub", "// crate::cli\nuse crate::{hub::a, id::{b, c}};").len(), 0);
    assert!(has_refused_name("src/hub/util.rs") && has_refused_name("src/common/mod.rs"));
    assert!(!has_refused_name("src/hub/commonness.rs"));
    assert!(has_unsafe("let x = unsafe { y };") && has_unsafe("unsafe impl Send for X {}"));
    assert!(!has_unsafe("// unsafe { }\n#![deny(unsafe_code)]"));
    assert_eq!(
        type_names("pub struct Room<T>;\n    pub(crate) enum A {").collect::<Vec<_>>(),
        ["Room", "A"]
    );
    assert!(machine_path(concat!("see /ho", "me/someone/x")).is_some());
    assert!(machine_path(concat!("curl /homepage net/wo", "rk/x")).is_none());
    let list = ["MIT".to_owned(), "ISC WITH Y".to_owned()];
    assert!(licence_is_met("(MIT OR LGPL-3.0) AND ISC WITH Y", &list));
    assert!(licence_is_met("GPL-3.0/MIT", &list) && !licence_is_met("MIT AND GPL-3.0", &list));
    assert!(version("0.9.10-rc.1") > version("0.9.9"));
}

/// One file, its name relative to the root.
struct File {
    name: String,
    text: String,
}

impl File {
    /// The text before the tests, which stand at the end.
    fn product(&self) -> &str {
        self.text.split("\n#[cfg(test)]").next().unwrap_or_default()
    }

    /// `hub` for `src/hub.rs` and for everything under `src/hub/`.
    fn module(&self) -> &str {
        let name = self.name.trim_start_matches("src/").trim_end_matches(".rs");
        name.split('/').next().unwrap_or_default()
    }

    /// Whether it is `src/protocol/<door>/..` or `src/protocol/<door>.rs`.
    fn is_in_a_door(&self) -> bool {
        self.name.starts_with("src/protocol/") && self.name != "src/protocol/mod.rs"
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Modules of the product: no crate roots, no files that hold only tests.
fn sources() -> impl Iterator<Item = File> {
    let is_root = |name: &str| {
        ["lib.rs", "main.rs"].iter().any(|root| name.ends_with(&format!("src/{root}")))
    };
    rust_files("src").chain(rust_files("loadtest/src")).filter(move |file| {
        !is_root(&file.name) && !file.name.ends_with("tests.rs") && !file.name.contains("/tests/")
    })
}

fn rust_files(folder: &str) -> impl Iterator<Item = File> {
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| File {
            name: relative(&path),
            text: fs::read_to_string(&path).expect("source files are UTF-8"),
        })
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let is_made = ["target", "node_modules"].iter().any(|made| name == *made);
        if is_made || name.to_string_lossy().starts_with(".git") {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("found under the root").to_string_lossy().into_owned()
}

/// What git tracks or would track; all files where there is no git (an unpacked crate).
fn tracked_files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => {
            let mut paths = Vec::new();
            walk(root(), &mut paths);
            paths.iter().map(|path| relative(path)).collect()
        }
    }
}

fn assert_clean(findings: impl Iterator<Item = String>) {
    let findings: Vec<String> = findings.collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

fn layer_faults(module: &str, text: &str) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|row| row.contains(&name));
    let Some(own) = layer(module) else {
        return vec![format!("module `{module}` has no layer: add it to LAYERS")];
    };
    named_modules(&without_comments(text))
        .into_iter()
        .filter(|named| named != module)
        .filter(|named| layer(named).is_none_or(|other| other >= own))
        .map(|named| format!("names `{named}`, which is not below `{module}`"))
        .collect()
}

/// First segments after `crate::`, those of a grouped import included.
fn named_modules(text: &str) -> Vec<String> {
    let mark = "crate::";
    let mut named: Vec<String> = text
        .match_indices(mark)
        .map(|(at, _)| &text[at + mark.len()..])
        .flat_map(|rest| rest.strip_prefix('{').map_or_else(|| vec![leading_word(rest)], group))
        .collect();
    named.retain(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
    named
}

/// `a`, `b` and `d` for `a, b::{c, x}, d}; ...`.
fn group(text: &str) -> Vec<String> {
    let mut named = vec![leading_word(text.trim_start())];
    let mut depth = 1;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => named.push(leading_word(text[at + 1..].trim_start())),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    named
}

fn leading_word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

fn has_refused_name(name: &str) -> bool {
    name.trim_end_matches(".rs").split('/').any(|part| MODULE_NAMES_REFUSED.contains(&part))
}

fn has_unsafe(text: &str) -> bool {
    let code = without_comments(text);
    [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe trait",
        "unsafe extern",
        "expect(unsafe_code",
        "allow(unsafe_code",
    ]
    .iter()
    .any(|mark| code.contains(mark))
}

fn type_names(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line =
            line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        ["struct ", "enum ", "trait ", "type "]
            .iter()
            .find_map(|kind| line.strip_prefix(kind))
            .map(leading_word)
    })
}

/// A path in somebody's home or in a build machine's work folder.
fn machine_path(text: &str) -> Option<&str> {
    let folders = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
    ];
    folders.iter().find_map(|folder| {
        let starts_a_path = |at: usize| {
            !text[..at]
                .ends_with(|before: char| before.is_alphanumeric() || "./~_-".contains(before))
        };
        let (at, _) = text.match_indices(folder).find(|(at, _)| starts_a_path(*at))?;
        text[at..].split(char::is_whitespace).next()
    })
}

/// `cargo metadata`, from what is already on the disk if all of it is there.
fn cargo_metadata() -> serde_json::Value {
    let run = |mode: &[&str]| {
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(mode)
            .current_dir(root())
            .output()
            .expect("cargo runs")
    };
    // Crates of other platforms are listed too; a first build has not fetched them.
    let mut output = run(&["--offline"]);
    if !output.status.success() {
        output = run(&[]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn packages(metadata: &serde_json::Value) -> &[serde_json::Value] {
    metadata["packages"].as_array().expect("cargo lists packages")
}

fn label(package: &serde_json::Value) -> String {
    format!("{} {}", package["name"], package["version"]).replace('"', "")
}

/// The list of `deny.toml`, so that there is one.
fn licences_allowed() -> Vec<String> {
    let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    let table: toml::Table = text.parse().expect("deny.toml is TOML");
    let allow = table["licenses"]["allow"].as_array().expect("a list of licences");
    allow.iter().filter_map(|licence| licence.as_str().map(str::to_owned)).collect()
}

/// Whether an SPDX expression can be met from the list; `A/B` is the old way to write `A OR B`.
fn licence_is_met(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    any_of(&mut words, allowed) && words.is_empty()
}

/// `all_of OR all_of ..`; takes what it read off the end of `words`.
fn any_of(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut met = all_of(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        met |= all_of(words, allowed);
    }
    met
}

/// `one AND one ..`
fn all_of(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        met &= one(words, allowed);
    }
    met
}

/// A licence, one `WITH` an exception, or an expression in parentheses.
fn one(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let Some(word) = words.pop() else {
        return false;
    };
    if word == "(" {
        let met = any_of(words, allowed);
        return words.pop() == Some(")") && met;
    }
    let mut licence = word.to_owned();
    if words.last() == Some(&"WITH") {
        words.pop();
        licence = format!("{word} WITH {}", words.pop().unwrap_or_default());
    }
    allowed.contains(&licence)
}

fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}
