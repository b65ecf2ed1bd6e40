//! What the documents quote is what the program says.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Everything that stands in the program's code, its texts in one piece each.
fn code() -> String {
    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, files),
                false => files.push(path),
            }
        }
    }
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let code: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    // A text that is continued on the next line begins there without its indentation.
    let mut joined = String::new();
    for line in code.lines() {
        match line.strip_suffix('\\') {
            Some(start) => joined.push_str(start.trim_start()),
            None => {
                joined.push_str(line.trim_start());
                joined.push('\n');
            }
        }
    }
    joined
}

#[test]
fn what_troubleshooting_quotes_is_what_the_program_says() {
    /// What other programs say, which is passed on.
    const FOREIGN: [&str; 6] = [
        "dns error",
        "failed to lookup address",
        "Connection refused",
        "UnknownIssuer",
        "certificate expired",
        "certificate not valid for name",
    ];
    let (code, mut quotes) = (code(), 0);
    for line in read("docs/troubleshooting.md").lines() {
        let symptom = match line.strip_prefix("| ") {
            Some(row) => row.split(" | ").next().unwrap(),
            None if line.starts_with("Log: ") => line.split("; the ").next().unwrap(),
            None => continue,
        };
        for quote in symptom.split('`').skip(1).step_by(2).filter(|quote| quote.contains(' ')) {
            if FOREIGN.contains(&quote) {
                continue;
            }
            // A status, or what stands for it, is put in.
            let text = quote.split(" (4").next().unwrap().split(" (5").next().unwrap();
            assert!(code.contains(text), "nothing says {text:?}: {line}");
            quotes += 1;
        }
    }
    assert!(quotes > 30, "only {quotes} quotes were found");
}

#[test]
fn every_alert_says_what_to_do() {
    let operations = read("docs/operations.md");
    let rules = read("docs/monitoring/prometheus-alerts.yml");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 5);
    for alert in alerts {
        assert!(operations.contains(&format!("\n### {alert}\n")), "{alert} is not in docs/operations.md");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let docs: Vec<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".md"))
        .chain(["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned))
        .collect();
    for doc in docs {
        let text = read(&doc);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => PathBuf::from(&doc),
                file => Path::new(&doc).parent().unwrap().join(file),
            };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target);
            assert!(path.exists(), "{doc}: {link}");
            if !anchor.is_empty() {
                let target = fs::read_to_string(path).unwrap();
                assert!(target.lines().any(|line| slug(line).as_deref() == Some(anchor)), "{doc}: {link}");
            }
        }
    }
}

/// What a heading is linked by.
fn slug(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}
