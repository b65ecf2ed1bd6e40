//! What a template says, as lines of plain text, and what may be chosen from it.
//!
//! The platform's templates are many, and bots invent their own, so hardly anything here asks for a
//! template's type: words stand under a few names everywhere, lists and buttons under a few others.
//! Lists become lines that begin with `- `, what can be chosen lines that begin with its number.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    Choice, Content,
    attachments::{self, link},
};

/// How deep a template is read, counting each object and each JSON inside of a string.
const MAX_DEPTH: usize = 8;

/// Where a template has words of its own, in the order in which people read them.
const HEADLINES: [&str; 7] =
    ["heading", "title", "text", "subText", "text_message", "description", "confirmation_text"];
/// Where an element has its name.
const TITLES: [&str; 8] =
    ["title", "label", "collectionTitle", "sectionHeader", "cardHeading", "heading", "text", "name"];
/// What an element may say beyond its name and its value.
const DETAILS: [&str; 5] = ["subtitle", "description", "sectionHeaderDesc", "placeholder", "taskProgress"];
/// Where elements stand, in templates and in elements.
const LISTS: [&str; 12] = [
    "elements",
    "listItems",
    "cards",
    "formFields",
    "rowItems",
    "collection",
    "cardDescription",
    "details",
    "textInformation",
    "subInformation",
    "subElements",
    "values",
];
/// Where options stand: each sends its value.
const OPTIONS: [&str; 7] = [
    "radioOptions",
    "tasks",
    "optionsData",
    "starArrays",
    "smileyArrays",
    "thumpsUpDownArrays",
    "numbersArrays",
];
/// Where buttons stand.
const BUTTONS: [&str; 9] = [
    "quick_replies",
    "quickReplies",
    "buttons",
    "button",
    "menu",
    "dropdownOptions",
    "headerOptions",
    "otpButtons",
    "resetButtons",
];
/// Templates whose elements are options; their button sends what was ticked and has no words of its own.
const SELECTIONS: [&str; 3] = ["dropdown_template", "multi_select", "advanced_multi_select"];

type Object = Map<String, Value>;

/// Reads one entry of a `message`: what it says is appended to `content`.
pub(super) fn read(entry: &Value, content: &mut Content) -> Option<String> {
    let mut reader = Reader { text: String::new(), content };
    attachments::listed(entry, &mut reader.content.attachments);
    if let Some(component) = entry.get("component").and_then(Value::as_object) {
        match component.get("payload") {
            Some(payload) => {
                reader.component(word(component, "type").unwrap_or_default(), payload, MAX_DEPTH);
            }
            None => reader.said("", component, MAX_DEPTH),
        }
    }
    if reader.text.is_empty()
        && let Some(body) = entry.get("cInfo").and_then(|info| info.get("body"))
    {
        reader.component("", body, MAX_DEPTH);
    }
    Some(reader.text).filter(|text| !text.is_empty())
}

/// What a chunk of a found answer adds to it: its fragments, as they are.
pub(super) fn fragment(entry: &Value) -> Option<String> {
    let mut payload = Cow::Borrowed(entry.get("component")?);
    for _ in 0..MAX_DEPTH {
        if let Some(data) = payload
            .get("answer_payload")
            .and_then(|answer| answer.get("center_panel")?.get("data")?.as_array())
        {
            let texts =
                data.iter().filter_map(|snippet| snippet.get("snippet_content")).map(
                    |content| match content {
                        Value::String(text) => text.clone(),
                        Value::Array(parts) => {
                            parts.iter().filter_map(|part| part.get("answer_fragment")?.as_str()).collect()
                        }
                        _ => String::new(),
                    },
                );
            return Some(texts.collect::<String>()).filter(|text| !text.is_empty());
        }
        payload = match payload.get("payload")? {
            Value::String(text) => Cow::Owned(unwrapped(text)?),
            inner => Cow::Owned(inner.clone()),
        };
    }
    None
}

struct Reader<'c> {
    text: String,
    content: &'c mut Content,
}

impl Reader<'_> {
    /// A payload, whatever it is wrapped in; `kind` is the `type` of what it is in.
    fn component(&mut self, kind: &str, payload: &Value, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        match payload {
            Value::String(text) => self.words(kind, text, depth),
            Value::Array(several) => several.iter().for_each(|one| self.component(kind, one, depth)),
            Value::Object(object) => {
                let kind = word(object, "type").unwrap_or(kind);
                match object.get("payload") {
                    Some(inner) if is_wrapper(object) => self.component(kind, inner, depth),
                    _ => self.said(kind, object, depth),
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A text, which may be JSON.
    fn words(&mut self, kind: &str, text: &str, depth: usize) {
        let before = (self.text.len(), self.content.choices.len(), self.content.attachments.len());
        if let Some(json) = unwrapped(text) {
            self.component(kind, &json, depth);
        }
        if before == (self.text.len(), self.content.choices.len(), self.content.attachments.len()) {
            self.line(0, text);
        }
    }

    /// A template, or anything else that is the end of the wrapping.
    fn said(&mut self, kind: &str, object: &Object, depth: usize) {
        let template = word(object, "template_type").unwrap_or_default();
        attachments::read(kind, object, &mut self.content.attachments);
        self.headlines(kind, object, depth);
        match &*template.to_ascii_lowercase() {
            "table" | "mini_table" | "custom_table" => self.table(object),
            "piechart" | "barchart" | "linechart" => self.chart(object),
            _ if SELECTIONS.contains(&template) => self.options(0, object.get("elements"), depth),
            _ => self.lists(0, object, depth),
        }
        self.answer(object);
        if let Some(form) = object.get("formData").and_then(Value::as_object)
            && let Some(url) = link(form)
        {
            self.line(0, url);
        }
        if SELECTIONS[1..].contains(&template) {
            // The button that sends what was ticked.
            return;
        }
        self.buttons(0, object, depth);
    }

    fn headlines(&mut self, kind: &str, object: &Object, depth: usize) {
        let mut seen: Vec<&str> = Vec::new();
        for text in HEADLINES.iter().filter_map(|key| word(object, key)) {
            if seen.contains(&text) {
                continue;
            }
            seen.push(text);
            if text.trim_start().starts_with('{') && depth > 0 {
                self.words(kind, text, depth - 1);
            } else {
                self.line(0, text);
            }
        }
    }

    fn lists(&mut self, indent: usize, object: &Object, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        for list in LISTS.iter().filter_map(|key| object.get(*key)?.as_array()) {
            list.iter().for_each(|element| self.element(indent, element, depth));
        }
        OPTIONS.iter().for_each(|key| self.options(indent, object.get(*key), depth));
    }

    fn element(&mut self, indent: usize, element: &Value, depth: usize) {
        let Value::Object(object) = element else {
            if let Some(text) = phrase(element, depth) {
                self.line(indent, &format!("- {text}"));
            }
            return;
        };
        let title = first(object, &TITLES, depth);
        let mut line = title.as_deref().unwrap_or_default().trim().to_owned();
        if let Some(value) = object.get("value").and_then(|value| phrase(value, depth)) {
            let between = if line.is_empty() || line.ends_with(':') { " " } else { ": " };
            line.push_str(between);
            line.push_str(&value);
        }
        let heading = object.get("cardHeading").and_then(|heading| heading.get("description"));
        for detail in DETAILS.iter().filter_map(|key| object.get(*key)).chain(heading) {
            if let Some(detail) = phrase(detail, depth) {
                line.push_str(" - ");
                line.push_str(&detail);
            }
        }
        let line = line.trim().trim_start_matches("- ");
        self.named(indent, line, title.as_deref(), object);
        let below = if line.is_empty() { indent } else { indent + 1 };
        self.lists(below, object, depth);
        self.menu(below, object.get("value"), depth);
        self.buttons(below, object, depth);
    }

    /// An element's line: what happens when it is clicked makes it a choice, or a link.
    fn named(&mut self, indent: usize, line: &str, title: Option<&str>, element: &Object) {
        let action = element.get("default_action").and_then(Value::as_object);
        if let Some(action) = action
            && !is_link(action)
            && let Some(payload) = pressed(action)
        {
            let title = word(action, "title").or(title).unwrap_or(&payload).to_owned();
            let line = if line.is_empty() { title.clone() } else { line.to_owned() };
            return self.choice(indent, &line, title, payload);
        }
        let url = action.and_then(link).or_else(|| link(element));
        match (line, url) {
            ("", None) => {}
            ("", Some(url)) => self.line(indent, &format!("- {url}")),
            (line, None) => self.line(indent, &format!("- {line}")),
            (line, Some(url)) => self.line(indent, &format!("- {line} <{url}>")),
        }
    }

    /// Elements that each send their value when they are chosen.
    fn options(&mut self, indent: usize, options: Option<&Value>, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        for option in options.and_then(Value::as_array).into_iter().flatten() {
            let Value::Object(object) = option else { continue };
            if let Some(group) = object.get("collection") {
                if let Some(title) = first(object, &TITLES, depth) {
                    self.line(indent, &title);
                }
                self.options(indent, Some(group), depth);
                continue;
            }
            let postback = object.get("postback").and_then(Value::as_object);
            let value = postback.and_then(sent).or_else(|| sent(object));
            let title = first(object, &TITLES, depth)
                .or_else(|| first(object, &["reviewText"], depth))
                .or_else(|| value.as_ref().map(ToString::to_string));
            let (Some(title), Some(value)) = (title, value) else { continue };
            let mut line = title.clone();
            // What a radio button stands for; for others that is what they send.
            let shown = postback.and_then(|_| object.get("value"));
            if let Some(shown) = shown.and_then(|shown| phrase(shown, depth)) {
                line.push_str(": ");
                line.push_str(&shown);
            }
            if let Some(detail) = first(object, &DETAILS, depth) {
                line.push_str(" - ");
                line.push_str(&detail);
            }
            self.choice(indent, &line, title, value.into_owned());
        }
    }

    /// Buttons that stand in an element's value.
    fn menu(&mut self, indent: usize, value: Option<&Value>, depth: usize) {
        if let Some(Value::Object(value)) = value {
            self.buttons(indent, value, depth);
        }
    }

    fn buttons(&mut self, indent: usize, object: &Object, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        for buttons in BUTTONS.iter().filter_map(|key| object.get(*key)) {
            match buttons {
                Value::Array(several) => several.iter().for_each(|one| self.button(indent, one, depth)),
                one => self.button(indent, one, depth),
            }
        }
    }

    fn button(&mut self, indent: usize, button: &Value, depth: usize) {
        let Value::Object(button) = button else { return };
        self.buttons(indent, button, depth);
        let title = first(button, &["title", "text", "label"], depth);
        if is_link(button) {
            match (title, link(button)) {
                (Some(title), Some(url)) => self.line(indent, &format!("- {title} <{url}>")),
                (Some(title), None) => self.line(indent, &format!("- {title}")),
                (None, Some(url)) => self.line(indent, &format!("- {url}")),
                (None, None) => {}
            }
            return;
        }
        // Others do something in the client: they send the form that they stand under, say.
        let Some(payload) = pressed(button) else { return };
        let title = title.unwrap_or_else(|| payload.to_string());
        self.choice(indent, &title.clone(), title, payload);
    }

    fn table(&mut self, object: &Object) {
        self.row(object.get("columns"));
        for element in object.get("elements").and_then(Value::as_array).into_iter().flatten() {
            self.row(element.get("primary"));
            self.row(element.get("Values").or_else(|| element.get("values")));
            for row in element.get("additional").and_then(Value::as_array).into_iter().flatten() {
                self.row(Some(row));
            }
        }
    }

    /// Cells are texts, or lists of a text and how it is shown.
    fn row(&mut self, cells: Option<&Value>) {
        let cell = |cell: &Value| match cell {
            Value::Array(parts) => parts.first().and_then(|text| phrase(text, 3)),
            cell => phrase(cell, 3),
        };
        let Some(cells) = cells.and_then(Value::as_array) else { return };
        let cells: Vec<_> = cells.iter().map(|one| cell(one).unwrap_or_default()).collect();
        self.line(0, &cells.join(" | "));
    }

    fn chart(&mut self, object: &Object) {
        let list = |object: &Object, key: &str| -> Vec<String> {
            let list = object.get(key).and_then(Value::as_array);
            list.into_iter().flatten().map(|one| phrase(one, 1).unwrap_or_default()).collect()
        };
        let axis = list(object, "X_axis");
        for element in object.get("elements").and_then(Value::as_array).into_iter().flatten() {
            let Value::Object(element) = element else { continue };
            let mut values = list(element, "displayValues");
            if values.is_empty() {
                values = list(element, "values");
            }
            let single = first(element, &["displayValue", "value"], 1);
            let points = values.iter().enumerate().map(|(at, value)| match axis.get(at) {
                Some(mark) => format!("{mark} {value}"),
                None => value.clone(),
            });
            let points: Vec<_> = points.chain(single).collect();
            let title = first(element, &TITLES, 1).unwrap_or_default();
            self.line(0, format!("- {title}: {}", points.join(", ")).trim_end_matches(": "));
        }
    }

    /// An answer that was found or generated, and where it comes from.
    fn answer(&mut self, object: &Object) {
        let panel = object
            .get("answer_payload")
            .or_else(|| object.get("graph_answer")?.get("payload"))
            .and_then(|payload| payload.get("center_panel")?.get("data")?.as_array());
        let mut sources: Vec<String> = Vec::new();
        for snippet in panel.into_iter().flatten() {
            if let Some(title) = snippet.get("snippet_title").and_then(Value::as_str) {
                self.line(0, title);
            }
            match snippet.get("snippet_content") {
                Some(Value::String(text)) => self.line(0, text),
                Some(Value::Array(fragments)) => self.fragments(fragments),
                _ => {}
            }
            let parts = snippet.get("snippet_content").and_then(Value::as_array);
            let cited =
                parts.into_iter().flatten().filter_map(|part| part.get("sources")?.as_array()).flatten();
            for source in cited.filter_map(Value::as_object).chain(snippet.as_object()) {
                let title = word(source, "title").or_else(|| word(source, "source"));
                let line = match (title, link(source)) {
                    (Some(title), Some(url)) => format!("- {title} <{url}>"),
                    (None, Some(url)) => format!("- {url}"),
                    _ => continue,
                };
                if !sources.contains(&line) {
                    sources.push(line);
                }
            }
        }
        sources.iter().for_each(|source| self.line(0, source));
    }

    /// The fragments of an answer are its sentences, in one paragraph.
    fn fragments(&mut self, fragments: &[Value]) {
        let mut paragraph = String::new();
        for text in fragments.iter().filter_map(|one| one.get("answer_fragment")?.as_str()) {
            let is_seam = !paragraph.is_empty()
                && !paragraph.ends_with(char::is_whitespace)
                && !text.starts_with(char::is_whitespace);
            if is_seam {
                paragraph.push(' ');
            }
            paragraph.push_str(text);
        }
        self.line(0, &paragraph);
    }

    fn choice(&mut self, indent: usize, line: &str, title: String, payload: impl Into<String>) {
        let payload = payload.into();
        let number = self.content.choices.len() + 1;
        if payload == title || payload == line {
            self.line(indent, &format!("{number}. {line}"));
        } else {
            self.line(indent, &format!("{number}. {line} [{payload}]"));
        }
        self.content.choices.push(Choice { title, payload });
    }

    fn line(&mut self, indent: usize, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.extend(std::iter::repeat_n("  ", indent));
        self.text.push_str(line);
    }
}

/// Whether an object has nothing to say but what its `payload` says.
fn is_wrapper(object: &Object) -> bool {
    let inner = object.get("payload").is_some_and(|inner| match inner {
        Value::String(text) => unwrapped(text).is_some() || !object.contains_key("title"),
        inner => inner.is_object() || inner.is_array(),
    });
    inner && word(object, "template_type").is_none() && word(object, "text").is_none()
}

/// The JSON object in a text, its quotes perhaps written as `&quot;`.
pub(super) fn unwrapped(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_json::from_str(&text.replace("&quot;", "\"")).ok())
        .filter(Value::is_object)
}

/// A field's text, if it has some.
pub(super) fn word<'o>(object: &'o Object, key: &str) -> Option<&'o str> {
    object.get(key)?.as_str().filter(|text| !text.trim().is_empty())
}

/// The first of these fields that says something.
fn first(object: &Object, keys: &[&str], depth: usize) -> Option<String> {
    keys.iter().find_map(|key| phrase(object.get(*key)?, depth))
}

/// A few words: a text or a number, or an object that has some, as a table's cell or a card's heading.
fn phrase(value: &Value, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(object) => {
            let chosen = word(object, "type").and_then(|kind| object.get(kind));
            let words = chosen.and_then(|chosen| phrase(chosen, depth));
            words.or_else(|| first(object, &["title", "text", "url", "label", "link"], depth))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

/// What is sent when this is chosen.
fn sent(object: &Object) -> Option<Cow<'_, str>> {
    ["payload", "value"].into_iter().find_map(|key| match object.get(key)? {
        Value::String(text) if !text.is_empty() => Some(Cow::Borrowed(&**text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        structured @ (Value::Object(_) | Value::Array(_)) => Some(Cow::Owned(structured.to_string())),
        _ => None,
    })
}

/// What pressing a button sends: its payload, else its title if it is one that sends anything.
fn pressed(button: &Object) -> Option<Cow<'_, str>> {
    let sends_title = || {
        let kind = word(button, "type").unwrap_or_default();
        kind.eq_ignore_ascii_case("postback") || button.contains_key("content_type")
    };
    sent(button).or_else(|| sends_title().then(|| word(button, "title").map(Cow::Borrowed)).flatten())
}

/// Whether a button leads to a page.
fn is_link(button: &Object) -> bool {
    word(button, "type").is_some_and(|kind| ["url", "web_url", "link"].contains(&kind))
}
