//! Templates as the platform's clients know them, and how each of them reads.

use serde_json::{Value, json};

use super::*;

fn said_by(entry: &Value) -> Content {
    content(json!({"type": "bot_response", "message": [entry]}).to_string().as_bytes())
}

/// A template in the usual wrapping.
fn template(payload: &Value) -> Content {
    said_by(&json!({
        "type": "text",
        "component": {"type": "template", "payload": {"type": "template", "payload": payload}},
        "cInfo": {"body": "the body"},
    }))
}

fn choices(content: &Content) -> Vec<(&str, &str)> {
    content.choices.iter().map(|choice| (&*choice.title, &*choice.payload)).collect()
}

fn check(payload: &Value, lines: &[&str], expected: &[(&str, &str)]) {
    let content = template(payload);
    let kind = &payload["template_type"];
    assert_eq!(content.text.as_deref(), Some(&*lines.join("\n")), "{kind}");
    assert_eq!(choices(&content), expected, "{kind}");
    assert_eq!(content.attachments, [], "{kind}");
}

#[test]
fn buttons_are_numbered_with_what_they_send() {
    check(
        &json!({"template_type": "button", "text": "Shall I book it?", "subText": "It costs 12 EUR.", "buttons": [
            {"type": "postback", "title": "Yes", "payload": "BOOK_YES"},
            {"type": "postback", "title": "No", "payload": "No"},
            {"type": "web_url", "title": "Terms", "url": "https://example.com/terms"},
        ]}),
        &[
            "Shall I book it?",
            "It costs 12 EUR.",
            "1. Yes [BOOK_YES]",
            "2. No",
            "- Terms <https://example.com/terms>",
        ],
        &[("Yes", "BOOK_YES"), ("No", "No")],
    );
    check(
        &json!({"template_type": "quick_replies", "text": "How was it?", "quick_replies": [
            {"content_type": "text", "title": "Good", "payload": "RATE_GOOD", "image_url": "https://example.com/g.png"},
            {"content_type": "text", "title": "Bad", "payload": "RATE_BAD"},
        ]}),
        &["How was it?", "1. Good [RATE_GOOD]", "2. Bad [RATE_BAD]"],
        &[("Good", "RATE_GOOD"), ("Bad", "RATE_BAD")],
    );
    check(
        &json!({"template_type": "quick_replies_welcome", "text": "Hello!", "quick_replies": [
            {"content_type": "text", "title": "Balance", "value": "Balance", "payload": "get balance"},
        ]}),
        &["Hello!", "1. Balance [get balance]"],
        &[("Balance", "get balance")],
    );
    check(
        &json!({"template_type": "otpValidationTemplate", "title": "Enter OTP", "description": "4 digits", "mobileNumber": "+91***", "pinLength": 4,
        "otpButtons": [{"title": "Submit", "type": "submit"}, {"title": "Resend", "type": "resend", "payload": "resend"}]}),
        &["Enter OTP", "4 digits", "1. Resend [resend]"],
        &[("Resend", "resend")],
    );
    check(
        &json!({"template_type": "resetPinTemplate", "title": "Reset PIN", "description": "Choose a new one", "resetButtons": [{"title": "Reset"}]}),
        &["Reset PIN", "Choose a new one"],
        &[],
    );
}

#[test]
fn lists_and_cards_are_lines_with_their_buttons_below() {
    check(
        &json!({"template_type": "carousel", "elements": [
            {"title": "Red hat", "subtitle": "warm", "image_url": "https://example.com/red.png",
             "default_action": {"type": "web_url", "url": "https://example.com/red"},
             "buttons": [{"type": "postback", "title": "Buy", "payload": "BUY_RED"}]},
            {"title": "Blue hat", "subtitle": "light",
             "buttons": [{"type": "postback", "title": "Buy", "payload": "BUY_BLUE"}]},
        ]}),
        &[
            "- Red hat - warm <https://example.com/red>",
            "  1. Buy [BUY_RED]",
            "- Blue hat - light",
            "  2. Buy [BUY_BLUE]",
        ],
        &[("Buy", "BUY_RED"), ("Buy", "BUY_BLUE")],
    );
    check(
        &json!({"template_type": "list", "heading": "Orders", "elements": [
        {"title": "Order 17", "subtitle": "on its way",
         "default_action": {"type": "postback", "title": "Order 17", "payload": "SHOW 17"}},
        {"title": "Order 18", "subtitle": "delivered",
         "buttons": [{"title": "Receipt", "type": "web_url", "url": "https://example.com/18"}]},
    ], "buttons": [{"title": "View more", "type": "postback", "payload": "MORE"}]}),
        &[
            "Orders",
            "1. Order 17 - on its way [SHOW 17]",
            "- Order 18 - delivered",
            "  - Receipt <https://example.com/18>",
            "2. View more [MORE]",
        ],
        &[("Order 17", "SHOW 17"), ("View more", "MORE")],
    );
    check(
        &json!({"template_type": "listView", "text": "Your transactions", "heading": "Speed analysis", "seeMore": true,
        "elements": [{"title": "Bank", "subtitle": "Description ", "value": "Open",
                      "default_action": {"title": "Bank, please", "type": "postback"}},
                     {"title": "Shop", "subtitle": "17 June", "value": "12.50"}],
        "buttons": [{"title": "See more", "type": "postback", "payload": "MORE"}]}),
        &[
            "Speed analysis",
            "Your transactions",
            "1. Bank: Open - Description",
            "- Shop: 12.50 - 17 June",
            "2. See more [MORE]",
        ],
        &[("Bank, please", "Bank, please"), ("See more", "MORE")],
    );
    check(
        &json!({"template_type": "listWidget", "title": "Accounts", "description": "as of today",
        "headerOptions": {"type": "text", "text": "One"},
        "elements": [
            {"title": "Savings", "subtitle": "AT12", "value": {"type": "text", "text": "100 EUR", "layout": {"align": "top"}},
             "details": [{"description": "250.00 to Ann", "image": {"image_src": "https://example.com/i.png"}}],
             "default_action": {"type": "postback", "payload": "OPEN savings"}},
            {"title": "Current", "value": {"type": "menu", "menu": [
                {"type": "postback", "title": "Close it", "payload": "CLOSE current"}]}},
        ]}),
        &[
            "Accounts",
            "as of today",
            "1. Savings: 100 EUR - AT12 [OPEN savings]",
            "  - 250.00 to Ann",
            "- Current",
            "  2. Close it [CLOSE current]",
        ],
        &[("Savings", "OPEN savings"), ("Close it", "CLOSE current")],
    );
    check(
        &json!({"template_type": "tableList", "title": "Comics", "description": "all of them", "elements": [
        {"sectionHeader": "New", "sectionHeaderDesc": "this week", "rowItems": [
            {"title": {"type": "url", "url": {"link": "https://example.com", "title": "Captain", "subtitle": "energy"}},
             "value": {"type": "text", "text": "$ 7", "layout": {"color": "blue"}},
             "default_action": {"type": "url", "url": "https://example.com/c"}},
            {"title": {"type": "text", "text": {"title": "Iron", "subtitle": "suit"}}, "value": {"type": "text", "text": "$ 9"},
             "default_action": {"type": "postback", "title": "Iron", "payload": "SHOW iron"}}]}]}),
        &[
            "Comics",
            "all of them",
            "- New - this week",
            "  - Captain: $ 7 <https://example.com/c>",
            "  1. Iron: $ 9 [SHOW iron]",
        ],
        &[("Iron", "SHOW iron")],
    );
    check(
        &json!({"template_type": "advancedListTemplate", "title": "Tasks", "description": "of this week", "listItems": [
        {"title": "Call Ann", "description": "today", "icon": "data:image/png;base64,AAAA", "headerOptions": [
            {"contenttype": "button", "title": "Done", "type": "postback", "payload": "DONE 1"}]},
        {"title": "Write to Bob", "headerOptions": [{"type": "dropdown", "dropdownOptions": [
            {"title": "Later", "type": "postback", "payload": "LATER 2"}]}],
         "textInformation": [{"title": "9:00"}, {"title": "Map", "type": "web_url", "url": "https://example.com/map"}],
         "view": "options", "optionsData": [{"id": "1", "type": "radio", "label": "By mail", "value": "mail"}]}]}),
        &[
            "Tasks",
            "of this week",
            "- Call Ann - today",
            "  1. Done [DONE 1]",
            "- Write to Bob",
            "  - 9:00",
            "  - Map <https://example.com/map>",
            "  2. By mail [mail]",
            "  3. Later [LATER 2]",
        ],
        &[("Done", "DONE 1"), ("By mail", "mail"), ("Later", "LATER 2")],
    );
    check(
        &json!({"template_type": "cardTemplate", "cards": [
        {"cardHeading": {"title": "Meeting", "description": "weekly"}, "cardDescription": [{"title": "9:00"}, {"title": "Room 5"}],
         "buttons": [{"title": "Accept", "type": "postback", "payload": "ACCEPT"}], "type": "action"},
        {"cardHeading": {"title": "Lunch"}, "type": "postback", "default_action": {"title": "Lunch it is", "payload": "LUNCH"}}]}),
        &["- Meeting - weekly", "  - 9:00", "  - Room 5", "  1. Accept [ACCEPT]", "2. Lunch [LUNCH]"],
        &[("Accept", "ACCEPT"), ("Lunch it is", "LUNCH")],
    );
    check(
        &json!({"template_type": "checkListTemplate", "title": "Onboarding", "elements": [
        {"title": "Manager", "taskProgress": "70%", "subInformation": [{"title": "Total tasks:", "value": "3"}],
         "default_action": {"payload": "SHOW manager", "title": "Manager", "type": "postback"},
         "subElements": [{"title": "Books", "values": [{"title": "Status: ", "value": "Completed"}],
                          "default_action": {"url": "https://example.com/books", "title": "Books", "type": "url"}}]}]}),
        &[
            "Onboarding",
            "1. Manager - 70% [SHOW manager]",
            "  - Total tasks: 3",
            "  - Books <https://example.com/books>",
            "    - Status: Completed",
        ],
        &[("Manager", "SHOW manager")],
    );
    check(
        &json!({"template_type": "articleTemplate", "elements": [
        {"title": "Restart", "description": "Clear the cache.", "createdOn": "May 24th",
         "button": {"title": "Show", "type": "url", "url": "https://example.com/kb"}}]}),
        &["- Restart - Clear the cache.", "  - Show <https://example.com/kb>"],
        &[],
    );
}

#[test]
fn tables_and_charts_are_rows() {
    check(
        &json!({"template_type": "table", "text": "Account details",
        "columns": [["Sl", "center"], ["Name"], ["Salary", "right"]],
        "elements": [{"Values": ["1", "Peter", 1000]}, {"Values": ["2", "Sam", 2000.5]}]}),
        &["Account details", "Sl | Name | Salary", "1 | Peter | 1000", "2 | Sam | 2000.5"],
        &[],
    );
    check(
        &json!({"template_type": "mini_table", "layout": "horizontal", "text": "Account details", "elements": [
        {"primary": [["Current"], ["300", "right"]], "additional": [["CA1", "150"], ["CA2", 50]]},
        {"primary": [["Savings"], ["200", "right"]], "additional": []}]}),
        &["Account details", "Current | 300", "CA1 | 150", "CA2 | 50", "Savings | 200"],
        &[],
    );
    check(
        &json!({"template_type": "custom_table", "text": "Flights", "columns": [["From"], ["To"]],
        "elements": [{"Values": [{"title": "VIE"}, {"type": "url", "url": {"link": "https://x", "title": "LHR"}}]}]}),
        &["Flights", "From | To", "VIE | LHR"],
        &[],
    );
    check(
        &json!({"template_type": "piechart", "text": "Expenses", "pie_type": "regular", "elements": [
        {"title": "Hotels", "value": "568.10", "displayValue": "$ 568"}, {"title": "Food", "value": 324}]}),
        &["Expenses", "- Hotels: $ 568", "- Food: 324"],
        &[],
    );
    check(
        &json!({"template_type": "barchart", "text": "Report", "X_axis": ["Jan", "Feb"], "elements": [
        {"title": "Peter", "values": [10, 5], "displayValues": ["10 ml", "5 ml"]},
        {"title": "Sam", "values": [30, 15, 12]}]}),
        &["Report", "- Peter: Jan 10 ml, Feb 5 ml", "- Sam: Jan 30, Feb 15, 12"],
        &[],
    );
    check(
        &json!({"template_type": "linechart", "text": "Report", "headers": ["H"], "X_axis": ["Jan"], "elements": [
        {"title": "Peter", "values": [10], "displayValues": ["10 ml"]}]}),
        &["Report", "- Peter: Jan 10 ml"],
        &[],
    );
}

#[test]
fn options_are_numbered_with_their_values() {
    check(
        &json!({"template_type": "dropdown_template", "heading": "Currency?", "elements": [
        {"title": "Dirham", "description": "UAE", "value": "AED"}, {"title": "Euro", "value": "EUR"}]}),
        &["Currency?", "1. Dirham - UAE [AED]", "2. Euro [EUR]"],
        &[("Dirham", "AED"), ("Euro", "EUR")],
    );
    check(
        &json!({"template_type": "multi_select", "heading": "Which?", "elements": [
        {"title": "Shirts", "value": "shirts"}, {"title": "Shorts", "value": "shorts"}],
        "buttons": [{"title": "Done", "type": "postback", "payload": "payload"}]}),
        &["Which?", "1. Shirts [shirts]", "2. Shorts [shorts]"],
        &[("Shirts", "shirts"), ("Shorts", "shorts")],
    );
    check(
        &json!({"template_type": "advanced_multi_select", "heading": "Brands?", "description": "at most one", "elements": [
        {"collectionTitle": "Shoes", "collection": [{"title": "Adi", "description": "DE", "value": "adi"}]},
        {"collectionTitle": "Cars", "collection": [{"title": "Audi", "value": "audi"}]}],
        "buttons": [{"title": "Done", "type": "postback", "payload": "payload"}]}),
        &["Brands?", "at most one", "Shoes", "1. Adi - DE [adi]", "Cars", "2. Audi [audi]"],
        &[("Adi", "adi"), ("Audi", "audi")],
    );
    check(
        &json!({"template_type": "radioOptionTemplate", "heading": "Which card?", "radioOptions": [
        {"title": "Ann", "value": "1234 5678", "postback": {"title": "Ann's card", "value": "CARD 1"}},
        {"title": "Bob", "value": "9876 5432", "postback": {"title": "Bob's card", "value": "CARD 2"}}]}),
        &["Which card?", "1. Ann: 1234 5678 [CARD 1]", "2. Bob: 9876 5432 [CARD 2]"],
        &[("Ann", "CARD 1"), ("Bob", "CARD 2")],
    );
    check(
        &json!({"template_type": "feedbackTemplate", "text": "Would you recommend us?", "view": "ThumbsUpDown", "starArrays": [],
        "thumpsUpDownArrays": [{"thumpUpId": 0, "value": "Unlikely", "reviewText": "Unlikely"},
                               {"thumpUpId": 1, "value": "likely", "reviewText": "Likely"}]}),
        &["Would you recommend us?", "1. Unlikely", "2. Likely [likely]"],
        &[("Unlikely", "Unlikely"), ("Likely", "likely")],
    );
    check(
        &json!({"template_type": "feedbackTemplate", "text": "Stars?", "view": "star", "starArrays": [{"starId": 1, "value": 1}, {"starId": 2, "value": 2}]}),
        &["Stars?", "1. 1", "2. 2"],
        &[("1", "1"), ("2", "2")],
    );
    check(
        &json!({"template_type": "taskPickerTemplate", "heading": "Tasks", "tasks": [{"title": "Get balance", "postback": {"title": "Get balance", "value": "BALANCE"}}]}),
        &["Tasks", "1. Get balance [BALANCE]"],
        &[("Get balance", "BALANCE")],
    );
}

#[test]
fn forms_and_pickers_say_what_they_ask_for() {
    check(
        &json!({"template_type": "form_template", "heading": "Please fill the form", "formFields": [
        {"type": "password", "label": "PIN", "placeholder": "four digits", "fieldButton": {"title": "Ok"}},
        {"type": "text", "placeholder": "Name"}]}),
        &["Please fill the form", "- PIN - four digits", "- Name"],
        &[],
    );
    check(
        &json!({"template_type": "dateTemplate", "text": "display", "title": "Pick a day", "text_message": "When?", "format": "MM-DD-YYYY"}),
        &["Pick a day", "display", "When?"],
        &[],
    );
    check(
        &json!({"template_type": "daterange", "title": "Stay", "text_message": "From when to when?", "startDate": "09-09-2021"}),
        &["Stay", "From when to when?"],
        &[],
    );
    check(&json!({"template_type": "clockTemplate", "title": "Pick a time"}), &["Pick a time"], &[]);
    check(
        &json!({"template_type": "digitalForm", "formData": {"formLink": "https://example.com/form", "renderType": "inline"}, "text": "A form"}),
        &["A form", "https://example.com/form"],
        &[],
    );
}

#[test]
fn answers_that_were_found_name_their_sources() {
    check(
        &json!({"template_type": "search", "graph_answer": {"payload": {"center_panel": {"data": [
        {"snippet_title": "What are funds?", "snippet_content": "Equity funds invest in shares.", "url": "https://example.com/funds", "source": "Funds"}]}}}}),
        &["What are funds?", "Equity funds invest in shares.", "- Funds <https://example.com/funds>"],
        &[],
    );
    check(
        &json!({"template_type": "answerTemplate", "answer_payload": {"center_panel": {"type": "generative_model", "data": [
        {"snippet_type": "generative_model", "snippet_content": [
            {"answer_fragment": "Restart it.", "sources": [{"title": "Manual", "url": "https://example.com/m", "doc_id": "d1"}]},
            {"answer_fragment": "Then wait.", "sources": [{"title": "Manual", "url": "https://example.com/m"}]}]}]}}}),
        &["Restart it. Then wait.", "- Manual <https://example.com/m>"],
        &[],
    );
}

#[test]
fn what_people_and_banners_say_is_text() {
    check(&json!({"template_type": "live_agent", "text": "Hello, I am Ann."}), &["Hello, I am Ann."], &[]);
    check(
        &json!({"template_type": "SYSTEM", "text": "Ann joined the conversation."}),
        &["Ann joined the conversation."],
        &[],
    );
    check(&json!({"template_type": "wait_for_response", "text": "One moment."}), &["One moment."], &[]);
    check(&json!({"template_type": "session_end", "text": "Goodbye."}), &["Goodbye."], &[]);
    check(&json!({"template_type": "conversation_end", "text": "It is over."}), &["It is over."], &[]);
}

#[test]
fn an_unknown_template_is_read_as_well_as_it_goes() {
    check(
        &json!({"template_type": "ourOwn", "title": "Seats", "elements": [{"name": "12A", "buttons": [{"title": "Take", "payload": {"seat": "12A"}}]}, "or none"]}),
        &["Seats", "- 12A", "  1. Take [{\"seat\":\"12A\"}]", "- or none"],
        &[("Take", "{\"seat\":\"12A\"}")],
    );
}

#[test]
fn a_template_reads_the_same_however_it_is_wrapped() {
    let inner = json!({"template_type": "button", "text": "Go?", "buttons": [
        {"type": "postback", "title": "\"Yes\"", "payload": "Y"},
    ]});
    let plain = json!({"template_type": "button", "text": "Go?", "buttons": [
        {"type": "postback", "title": "Yes", "payload": "Y"},
    ]});
    let whole = json!({"type": "template", "payload": inner});
    let with_entities = json!({"type": "template", "payload": plain}).to_string().replace('"', "&quot;");
    for (wrapping, entry, title) in [
        ("as it is", json!({"component": {"type": "template", "payload": inner}}), "\"Yes\""),
        ("component alone", json!({"component": inner}), "\"Yes\""),
        ("text of a payload", json!({"component": {"payload": whole.to_string()}}), "\"Yes\""),
        ("with entities", json!({"component": {"payload": with_entities}}), "Yes"),
        ("text in a payload", json!({"component": {"payload": {"text": whole.to_string()}}}), "\"Yes\""),
        (
            "payload of a payload",
            json!({"component": {"payload": {"payload": inner.to_string()}}}),
            "\"Yes\"",
        ),
        ("body", json!({"cInfo": {"body": whole.to_string()}}), "\"Yes\""),
        ("body with entities", json!({"component": {}, "cInfo": {"body": with_entities}}), "Yes"),
    ] {
        let content = said_by(&entry);
        let text = format!("Go?\n1. {title} [Y]");
        assert_eq!(content.text.as_deref(), Some(&*text), "{wrapping}");
        assert_eq!(choices(&content), [(title, "Y")], "{wrapping}");
    }
}

#[test]
fn entries_share_their_numbers() {
    let button = |title| {
        json!({"component": {"payload": {"template_type": "button", "text": "Go?", "buttons": [
            {"type": "postback", "title": title, "payload": title}]}}})
    };
    let frame =
        json!({"type": "bot_response", "message": [button("A"), {"cInfo": {"body": "or"}}, button("B")]});
    let content = content(frame.to_string().as_bytes());
    assert_eq!(content.text.as_deref(), Some("Go?\n1. A\nor\nGo?\n2. B"));
    assert_eq!(choices(&content), [("A", "A"), ("B", "B")]);
}

#[test]
fn errors_and_delayed_texts_are_text() {
    for entry in [
        json!({"component": {"type": "error", "payload": {"type": "error", "text": "Sorry.", "color": "#f00"}}}),
        json!({"component": {"type": "error", "payload": {"payload": {"text": "Sorry."}}}}),
        json!({"component": {"type": "text", "payload": {"text": "Sorry.", "renderDelay": 500}}}),
        json!({"component": {"type": "message", "payload": {"type": "message", "text": "Sorry."}}}),
        json!({"component": {"type": "text", "payload": {"type": "text", "x": 1}}, "cInfo": {"body": "Sorry."}}),
        json!({"component": {"payload": {"template_type": "like_dislike"}}, "cInfo": {"body": "Sorry."}}),
    ] {
        let said = Content { text: Some("Sorry.".into()), ..Content::default() };
        assert_eq!(said_by(&entry), said, "{entry}");
    }
}

#[test]
fn files_are_attachments() {
    let file = |name: Option<&str>, kind: &str, size: Option<f64>| Attachment {
        name: name.map(str::to_owned),
        kind: Some(kind.to_owned()),
        url: Some("https://example.com/f".to_owned()),
        size: size.and_then(serde_json::Number::from_f64),
    };
    let url = "https://example.com/f";
    for (entry, text, expected) in [
        (json!({"component": {"type": "image", "payload": {"url": url}}}), None, file(None, "image", None)),
        (
            json!({"component": {"type": "video", "payload": {"videoUrl": url, "title": "A film"}}}),
            Some("A film"),
            file(Some("A film"), "video", None),
        ),
        (
            json!({"component": {"type": "audio", "payload": {"type": "audio", "payload": {"audioUrl": url}}}}),
            None,
            file(None, "audio", None),
        ),
        (
            json!({"component": {"type": "link", "payload": {"fileName": "a.pdf", "url": url}}, "cInfo": {"body": "Here"}}),
            Some("Here"),
            file(Some("a.pdf"), "link", None),
        ),
        (
            json!({"component": {"payload": json!({"type": "image", "payload": {"url": url}}).to_string()}}),
            None,
            file(None, "image", None),
        ),
        (
            json!({"component": {"type": "message", "payload": {"text": "Look", "videoUrl": url}}}),
            Some("Look"),
            file(None, "video", None),
        ),
        (
            json!({"component": {"type": "template", "payload": {"template_type": "attachment", "fileName": "a.png",
                "fileType": "image", "fileUrl": url, "size": 1.5}}}),
            None,
            file(Some("a.png"), "image", Some(1.5)),
        ),
        (
            json!({"component": {"type": "template", "payload": {"template_type": "live_agent", "text": "Your bill",
                "attachments": [{"fileName": "bill.pdf", "type": "attachment", "fileUrl": url, "size": 0.25}]}}}),
            Some("Your bill"),
            file(Some("bill.pdf"), "attachment", Some(0.25)),
        ),
        (
            json!({"cInfo": {"body": "Here"}, "attachments": [{"type": "image", "payload": {"url": url}}]}),
            Some("Here"),
            file(None, "image", None),
        ),
    ] {
        let content = said_by(&entry);
        assert_eq!(content.text.as_deref(), text, "{entry}");
        assert_eq!(content.attachments, [expected], "{entry}");
        assert_eq!(content.choices, [], "{entry}");
    }
}

#[test]
fn what_a_user_attached_elsewhere_is_attached() {
    let frame = json!({"type": "user_message", "from": "self", "message": {"body": "", "attachments": [
        {"fileId": "f-2", "fileName": "small.txt", "fileType": "attachment", "fileUrl": "https://example.com/x", "size": 0},
        {"fileId": "f-3", "fileName": "lost.txt"},
        "nothing", {}, null,
    ]}});
    let content = content(frame.to_string().as_bytes());
    assert_eq!(content.text, None);
    assert_eq!(
        serde_json::to_value(&content.attachments).unwrap(),
        json!([
            {"name": "small.txt", "type": "attachment", "url": "https://example.com/x", "size": 0},
            {"name": "lost.txt", "type": null, "url": null, "size": null},
        ])
    );
}

#[test]
fn a_file_that_is_its_own_url_is_left_in_the_frame() {
    let url = format!("data:image/png;base64,{}", "A".repeat(10_000));
    let content = said_by(&json!({"component": {"type": "image", "payload": {"url": url, "name": "x"}}}));
    assert_eq!(content, Content::default());
}

#[test]
fn what_is_too_large_or_too_deep_to_be_read_is_still_text() {
    let large = json!({"component": {"payload": {"template_type": "list", "text": "Many", "elements":
        vec![json!({"title": "x"}); 60_000]}}});
    assert_eq!(said_by(&large), Content { text: Some("Many".into()), ..Content::default() });
    let mut deep = json!({"title": "core"});
    for _ in 0..60 {
        deep =
            json!({"elements": [deep], "buttons": [{"type": "postback", "title": "B", "buttons": [deep]}]});
        if deep.to_string().len() > MAX_TEMPLATE / 2 {
            break;
        }
    }
    let content =
        said_by(&json!({"component": {"payload": {"template_type": "list", "text": "T", "payload": deep}}}));
    assert_eq!(content.text.as_deref(), Some("T"));
    let mut element = json!({"title": "core"});
    for _ in 0..100 {
        element = json!({"title": "t", "elements": [element], "value": {"text": {"text": element}}});
        if element.to_string().len() > 1000 {
            break;
        }
    }
    assert!(said_by(&json!({"component": {"payload": {"elements": [element]}}})).text.is_some());
    let mut nested = json!({"text": "core"}).to_string();
    for _ in 0..12 {
        nested = json!({"component": {"payload": nested}, "text": nested, "payload": nested}).to_string();
        if nested.len() > 100_000 {
            break;
        }
    }
    assert!(said_by(&json!({"component": {"payload": nested}})).text.is_some());
}

/// JSON that looks like a template here and there.
fn arbitrary() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let key = || {
        prop::sample::select(vec![
            "component",
            "payload",
            "type",
            "template_type",
            "text",
            "title",
            "elements",
            "buttons",
            "value",
            "url",
            "default_action",
            "columns",
            "Values",
            "primary",
            "additional",
            "cInfo",
            "body",
            "attachments",
            "postback",
            "collection",
            "answer_payload",
            "center_panel",
            "data",
            "snippet_content",
            "answer_fragment",
            "sources",
            "quick_replies",
            "radioOptions",
            "X_axis",
            "values",
            "formData",
            "cardHeading",
            "fileUrl",
            "headerOptions",
        ])
    };
    let word = || {
        prop::sample::select(vec![
            "",
            " ",
            "{",
            "{}",
            "text",
            "postback",
            "web_url",
            "image",
            "table",
            "mini_table",
            "barchart",
            "dropdown_template",
            "multi_select",
            "{\"text\":\"in\"}",
            "&quot;",
            "{&quot;text&quot;:1}",
            "ä\n\u{1}",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 80, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::vec((key(), inner.clone()), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            1 => inner.prop_map(|json| Value::from(json.to_string())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_read_without_a_panic_and_in_proportion(entry in arbitrary()) {
        let length = entry.to_string().len();
        for content in [said_by(&entry), said_by(&json!({"component": {"type": "template", "payload": entry}}))] {
            let listed: usize = content.choices.iter().map(|one| one.title.len() + one.payload.len()).sum();
            let text = content.text.as_ref().map_or(0, String::len);
            proptest::prop_assert!(listed + text <= 40 * length + 1000, "{listed} {text} {length}");
            proptest::prop_assert_ne!(content.text.as_deref(), Some(""));
            for (at, choice) in content.choices.iter().enumerate() {
                proptest::prop_assert!(!choice.payload.is_empty());
                let text = content.text.as_deref().unwrap_or_default();
                let marker = format!("{}. ", at + 1);
                proptest::prop_assert!(text.contains(&marker), "each choice is listed: {text}");
            }
        }
    }

    #[test]
    fn what_is_only_text_is_what_it_always_was(said in ".{0,40}", delay: u16) {
        for entry in [
            json!({"cInfo": {"body": said}}),
            json!({"type": "text", "component": {"type": "text", "payload": {"text": said}}, "cInfo": {"body": "B"}}),
            json!({"component": {"type": "text", "payload": {"text": said, "renderDelay": delay}}}),
        ] {
            let frame = json!({"type": "bot_response", "message": [entry]}).to_string();
            let text = plain_text(frame.as_bytes());
            proptest::prop_assert_eq!(content(frame.as_bytes()), Content { text, ..Content::default() });
        }
    }
}
