use super::*;

const ENVELOPE: &str = r#"{"type":"bot_response","timestamp":"2026-01-01T00:00:00.000Z","user":"alice","bot":"support",
"sequence":42,"inReplyTo":null,"source":"live","from":"bot","text":"a <b> & \"c\"\u0001 ü","data":{"n":[1,{"x":"y"}]}}"#;

fn compiled(content_type: &str, text: &str) -> Result<Template, TemplateError> {
    Template::compile(TemplateSource {
        file: "desk.txt".to_owned(),
        content_type: content_type.to_owned(),
        text: text.to_owned(),
    })
}

fn made(content_type: &str, text: &str) -> Result<String, String> {
    let bytes = compiled(content_type, text).map_err(|error| error.to_string())?.render(ENVELOPE.as_bytes());
    bytes.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn values_are_escaped_as_the_content_type_asks() {
    let cases = [
        (
            "text/xml",
            "<t a=\"{{ text }}\">{{ inReplyTo }}</t>",
            "<t a=\"a &lt;b&gt; &amp; &quot;c&quot;\u{fffd} ü\"></t>",
        ),
        ("text/xml", "{{ text | urlencode }}", "a+%3Cb%3E+%26+%22c%22%01+%C3%BC"),
        (
            "application/json",
            "[{{ text }}, {{ inReplyTo }}, {{ sequence }}, {{ data }}]",
            "[\"a <b> & \\\"c\\\"\\u0001 ü\", null, 42, {\"n\":[1,{\"x\":\"y\"}]}]",
        ),
        (
            "application/json",
            "{\"t\": {{ \"from \" ~ user }}, \"u\": \"?q={{ text | urlencode }}\"}",
            "{\"t\": \"from alice\", \"u\": \"?q=a+%3Cb%3E+%26+%22c%22%01+%C3%BC\"}",
        ),
        (
            "application/x-www-form-urlencoded",
            "t={{ text }}&r={{ inReplyTo }}&n={{ sequence }}&d={{ data.n[1].x | urlencode }}",
            "t=a+%3Cb%3E+%26+%22c%22%01+%C3%BC&r=&n=42&d=y",
        ),
        ("text/plain", "{{ text }}|{{ inReplyTo }}|{{ choices | length }}", "a <b> & \"c\"\u{1} ü||0"),
    ];
    for (content_type, text, expected) in cases {
        assert_eq!(made(content_type, text).as_deref(), Ok(expected), "{content_type}: {text}");
    }
}

#[test]
fn lines_with_nothing_but_a_tag_leave_none_behind() {
    let text = "a\n  {% if chunks %}\n  b\n  {% else %}\n  c\n  {% endif %}\nd\n";
    assert_eq!(made("text/plain", text).as_deref(), Ok("a\n  c\nd"));
}

#[test]
fn a_mistake_is_told_with_its_file_and_line() {
    let cases = [
        ("text/plain", "1\n{{ texxt }}", "desk.txt, line 2: there is no such value: `texxt`"),
        ("text/plain", "1\n\n{{ data.m.n }}", "desk.txt, line 3: there is no such value: `data.m.n`"),
        ("text/plain", "{{ 1 + text }}", "desk.txt, line 1: "),
        ("text/plain", "1\n{% for x in %}", "desk.txt, line 2: syntax error: "),
        ("text/plain", "{{ text | nothing }}", "desk.txt, line 1: unknown filter: "),
        ("text/plain", "{% include 'other' %}", "desk.txt, line 1: syntax error: "),
        ("text/plain", "{{ debug() }}", "desk.txt, line 1: "),
        ("application/json", "{\"t\": \"{{ text }}\"}", "desk.txt: what it makes is not JSON: "),
        ("nonsense", "", "desk.txt: its content type is none"),
    ];
    for (content_type, text, expected) in cases {
        let error = made(content_type, text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(!error.contains('\n') && !error.contains("<b>"), "{text}: {error}");
    }
}

#[test]
fn what_may_be_missing_can_be_asked_for() {
    let text =
        "{% if data.m is defined %}no{% endif %}{{ data.m | default('none') }}{% if data.m %}no{% endif %}";
    assert_eq!(made("text/plain", text).as_deref(), Ok("none"));
}

#[test]
fn a_body_is_bounded_in_steps_and_size() {
    let steps = "{% for a in range(1000) %}{% for b in range(1000) %}{% set c = b %}{% endfor %}{% endfor %}";
    assert_eq!(made("text/plain", steps).unwrap_err(), "desk.txt, line 1: it takes more than 250000 steps");
    let size = "{% for a in range(5000) %}{{ 'x' * 1000 }}{% endfor %}";
    assert_eq!(made("text/plain", size).unwrap_err(), "desk.txt: the body would be larger than 4 MiB");
    // Not by what it prints, either.
    assert!(made("text/plain", "{{ 'x' * 1000000000000 }}").is_err());
    assert_eq!(made("text/plain", "{{ 'x' * 1000 }}").unwrap().len(), 1000);
}

#[test]
fn another_text_file_or_content_type_is_another_template() {
    let one = compiled("text/plain", "a").unwrap();
    assert_eq!(one.id(), compiled("text/plain", "a").unwrap().id());
    for other in [compiled("text/plain", "b"), compiled("text/csv", "a")] {
        assert_ne!(one, other.unwrap());
    }
}

/// The name is in users' stores.
#[test]
fn its_id_is_stable() {
    let id = compiled("text/plain", "a").unwrap().id();
    insta::assert_debug_snapshot!(id, @"TemplateId(88913471bfd05aaf89da7a18cc8b291c)");
}

proptest::proptest! {
    #[test]
    fn no_text_of_a_user_breaks_out(text: String) {
        let envelope = serde_json::to_vec(&serde_json::json!({ "text": text })).unwrap();
        let made = |content_type, template| {
            String::from_utf8(compiled(content_type, template).unwrap().render(&envelope).unwrap()).unwrap()
        };
        let xml = made("text/xml", "<t a='{{ text }}'/>");
        let inner = &xml[6..xml.len() - 3];
        proptest::prop_assert!(!inner.contains(['<', '>', '\'', '"']) && !inner.contains(is_foreign_to_xml));
        let json: serde_json::Value = serde_json::from_str(&made("application/json", "{\"t\": {{ text }}}")).unwrap();
        proptest::prop_assert_eq!(json["t"].as_str(), Some(&*text));
        let form = made("application/x-www-form-urlencoded", "t={{ text }}&u=1");
        let fields: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        proptest::prop_assert_eq!(&fields, &[("t".to_owned(), text), ("u".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn no_template_panics(text in "(\\{\\{|\\}\\}|\\{%|%\\}|text|data|[a-z|(). \\n]){0,20}") {
        let _ = made("text/xml", &text);
    }
}
