//! `[bots.NAME]`

use crate::config::{
    Bot, Environment, JwtAlgorithm,
    reader::TableReader,
    secrets::{Literal, secret},
};

pub(super) fn read(mut table: TableReader<'_>, env: &dyn Environment) -> Option<Bot> {
    let name = table.required("name", "\"Support\"", |item| Some(item.nonempty("\"Support\"")?.to_owned()));
    let id = table.required("id", "\"st-...\"", |item| Some(item.nonempty("\"st-...\"")?.to_owned()));
    let client_id =
        table.required("client_id", "\"cs-...\"", |item| Some(item.nonempty("\"cs-...\"")?.to_owned()));
    let client_secret = table.required("client_secret", "{ env = \"BOT_CLIENT_SECRET\" }", |item| {
        secret(item, env, Literal::Warned)
    });
    let algorithm = table.knob("algorithm", JwtAlgorithm::default(), |item| {
        item.choice(&[("HS256", JwtAlgorithm::Hs256), ("HS512", JwtAlgorithm::Hs512)])
    });
    warn_of_unusual_ids(&table, id.as_deref(), client_id.as_deref());
    table.finish();
    Some(Bot { name: name?, id: id?, client_id: client_id?, client_secret: client_secret?, algorithm })
}

/// The two ids look alike and are easily swapped.
fn warn_of_unusual_ids(table: &TableReader<'_>, id: Option<&str>, client_id: Option<&str>) {
    for (key, value, prefix) in [("id", id, "st-"), ("client_id", client_id, "cs-")] {
        if let (Some(value), Some(item)) = (value, table.item(key))
            && !value.starts_with(prefix)
        {
            item.warn(format!("usually starts with `{prefix}`: is it the right id?"));
        }
    }
}
