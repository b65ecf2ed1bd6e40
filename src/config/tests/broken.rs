//! Mistakes, each with the place, the key and the help that it is reported with.

use super::{BASE, load};

/// A mistake: the text, and what its only error must say.
struct Mistake {
    text: &'static str,
    line: usize,
    key: &'static str,
    message: &'static str,
    help: &'static str,
}

const fn wrong(
    text: &'static str,
    line: usize,
    key: &'static str,
    message: &'static str,
    help: &'static str,
) -> Mistake {
    Mistake { text, line, key, message, help }
}

/// Mistakes in files of their own.
const ALONE: &[Mistake] = &[
    // Not TOML.
    wrong("[platform\nurl = 1", 1, "", "not valid TOML", ""),
    wrong("[platform]\nurl = \"https://a.example", 2, "", "not valid TOML", ""),
    wrong("[log]\nlevel = info\n", 2, "", "not valid TOML", ""),
    wrong("[log]\nlevel = \"info\"\nlevel = \"warn\"\n", 3, "", "defined twice: first on line 2", "remove"),
    wrong("[log]\n[http]\n\n[log]\n", 4, "", "defined twice: first on line 1", "remove"),
    // Unknown tables and keys.
    wrong("[platfrom]\n", 1, "[platfrom]", "unknown table", "did you mean `platform`?"),
    wrong("[user.alice]\nbot = \"x\"\n", 1, "[user]", "unknown table", "did you mean `users`?"),
    wrong("url = \"https://a.example\"\n", 1, "url", "unknown key", "known here: include, platform"),
    wrong("[http]\n\nap1 = \"127.0.0.1:1\"", 3, "[http] ap1", "unknown key", "did you mean `api`?"),
    wrong("[store]\ncach = \"1MiB\"", 2, "[store] cach", "unknown key", "did you mean `cache`?"),
    wrong(
        "[messages]\ntimeout = \"1s\"",
        2,
        "[messages] timeout",
        "unknown key",
        "did you mean `ack_timeout`?",
    ),
    wrong("[history]\ncolour = 1", 2, "[history] colour", "unknown key", "known here: recover, max_messages"),
    wrong("[log]\nlevels = \"info\"", 2, "[log] levels", "unknown key", "did you mean `level`?"),
    // Wrong types.
    wrong("platform = 1", 1, "[platform]", "must be a table", "[platform]"),
    wrong("users = []", 1, "[users]", "must be a table of users by name", "[users.NAME]"),
    wrong("[[webhooks]]\nurl = \"https://a.example\"", 1, "[webhooks]", "must be a table of webhooks", ""),
    wrong(
        "include = \"users.toml\"",
        1,
        "include",
        "must be an array",
        "did you mean `[\"users.d/*.toml\"]`?",
    ),
    wrong("[platform]\nurl = 1", 2, "[platform] url", "must be a text, not a whole number", "such as"),
    wrong("[platform]\ninsecure = \"yes\"", 2, "[platform] insecure", "must be true or false", "`true`"),
    wrong("[platform]\nrequest_rate = \"4\"", 2, "[platform] request_rate", "must be a number", "4.5"),
    wrong("[messages]\nin_flight = 1.5", 2, "[messages] in_flight", "must be a whole number", "`1`"),
    wrong("[messages]\nttl = 900", 2, "[messages] ttl", "must be a duration", "did you mean `\"900s\"`?"),
    wrong("[messages]\nttl = 1979-05-27", 2, "[messages] ttl", "not a date", "30s"),
    wrong("[messages]\nrate = 50", 2, "[messages] rate", "must be a rate", "did you mean `\"50/s\"`?"),
    wrong("[http]\ntls = \"cert.pem\"", 2, "[http] tls", "must be a table, not a text", "certificate"),
    // Bad values.
    wrong(
        "[messages]\nttl = \"15 min\"",
        2,
        "[messages] ttl",
        "is not a duration",
        "did you mean `\"15m\"`?",
    ),
    wrong(
        "[messages]\nttl = \"1.5h\"",
        2,
        "[messages] ttl",
        "is not a duration",
        "a whole number and a unit",
    ),
    wrong("[messages]\nmax_body = \"256KB\"", 2, "[messages] max_body", "is not a size", "\"256KiB\""),
    wrong("[messages]\nrate = \"50/d\"", 2, "[messages] rate", "is not a rate", "50/s"),
    wrong("[messages]\nrate = \"0/s\"", 2, "[messages] rate", "a rate of nothing", "leave it out"),
    wrong(
        "[store]\ndurability = \"fsnyc\"",
        2,
        "[store] durability",
        "not known here",
        "did you mean `fsync`?",
    ),
    wrong("[log]\nformat = \"xml\"", 2, "[log] format", "not known here", "\"auto\", \"journald\""),
    wrong("[log]\nlevel = \"debgu\"", 2, "[log] level", "is not a log level", "did you mean `debug`?"),
    wrong("[log]\nlevel = \"a[b]=debug\"", 2, "[log] level", "is not a log level", "RUST_LOG"),
    wrong("[log]\nlevel = \"a=b=c\"", 2, "[log] level", "is not a log level", "RUST_LOG"),
    wrong("[http]\napi = \"localhost:80\"", 2, "[http] api", "is not an address", "\"127.0.0.1:80\""),
    wrong("[http]\napi = \"127.0.0.1\"", 2, "[http] api", "is not an address", "an IP address and a port"),
    wrong(
        "[platform]\nreconnect_query = \"isReconnect\"",
        2,
        "[platform] reconnect_query",
        "not known here",
        "did you mean `isReconnect=true`?",
    ),
    // Ranges.
    wrong("[messages]\nin_flight = 0", 2, "[messages] in_flight", "is too small: at least 1", ""),
    wrong("[messages]\nin_flight = -3", 2, "[messages] in_flight", "is too small: at least 1", ""),
    wrong("[messages]\nmax_queued = 99999999999999999999999", 2, "[messages] max_queued", "is too large", ""),
    wrong("[messages]\nmax_attempts = 101", 2, "[messages] max_attempts", "is too large: at most 100", ""),
    wrong("[messages]\nttl = \"0s\"", 2, "[messages] ttl", "is too small", ""),
    wrong("[messages]\nmax_body = -1", 2, "[messages] max_body", "must not be negative", ""),
    wrong("[platform]\nrequest_rate = 0", 2, "[platform] request_rate", "must be more than 0", "4.5"),
    wrong("[platform]\nrequest_rate = -1.5", 2, "[platform] request_rate", "must be more than 0", "4.5"),
    wrong(
        "[platform]\nrequest_rate = 10000.5",
        2,
        "[platform] request_rate",
        "at most 10000 requests",
        "4.5",
    ),
    wrong("[platform]\nrequest_rate = nan", 2, "[platform] request_rate", "must be more than 0", "4.5"),
    wrong(
        "[platform]\njwt_lifetime = \"2h\"",
        2,
        "[platform] jwt_lifetime",
        "the platform refuses",
        "\"1h\"",
    ),
    wrong("[platform]\nmax_frame = \"1KiB\"", 2, "[platform] max_frame", "too small: at least 64KiB", ""),
    wrong(
        "[platform]\nbackoff_min = \"1m\"",
        2,
        "[platform] backoff_min",
        "larger than backoff_max (30s)",
        "",
    ),
    wrong("[platform]\nbackoff_max = \"20ms\"", 2, "[platform] backoff_max", "backoff_min (500ms)", ""),
    wrong("[store]\nmax_size = \"2MiB\"", 2, "[store] max_size", "recent (32MiB) is larger than", ""),
    wrong(
        "[http]\nops = \"127.0.0.1:8080\"",
        2,
        "[http] ops",
        "can't listen on the same port",
        "another port",
    ),
    // URLs, and what must be encrypted.
    wrong("[platform]\nurl = \"bots.kore.ai\"", 2, "[platform] url", "the scheme is missing", "`https://`"),
    wrong(
        "[platform]\nurl = \"ftp://a.example\"",
        2,
        "[platform] url",
        "must be https or http, not ftp",
        "such as",
    ),
    wrong("[platform]\nurl = \"https://\"", 2, "[platform] url", "is not a URL", "such as"),
    wrong(
        "[platform]\nurl = \"https://a.example/?a=b\"",
        2,
        "[platform] url",
        "must not hold a query",
        "remove",
    ),
    wrong("[platform]\nurl = \"https://a b.example/\"", 2, "[platform] url", "no spaces", "such as"),
    wrong("[platform]\nurl = \"http://a.example\"", 2, "[platform] url", "unencrypted", "use https://"),
    wrong(
        "[platform]\nwebsocket_url = \"ws://a.example\"",
        2,
        "[platform] websocket_url",
        "unencrypted",
        "wss://",
    ),
    wrong(
        "[platform]\nwebsocket_url = \"https://a.example\"",
        2,
        "[platform] websocket_url",
        "wss or ws",
        "",
    ),
    wrong("[platform]\nwebsocket_url = \"wss://a.example/x\"", 2, "[platform] websocket_url", "a path", ""),
    wrong("[http]\napi = \"0.0.0.0:8080\"", 2, "[http] api", "without [clients]", "[clients.NAME]"),
    wrong("[http]\nops = \"[::]:8081\"", 2, "[http] ops", "without [clients]", "127.0.0.1"),
    // Files.
    wrong("[platform]\nca = \"no.pem\"", 2, "[platform] ca", "can't read", "correct the path"),
    wrong(
        "[platform]\nca = \"bridge.toml\"",
        2,
        "[platform] ca",
        "holds no certificate",
        "BEGIN CERTIFICATE",
    ),
    wrong("include = [\"no.toml\"]", 0, "", "can't be read", "create this one"),
    wrong("include = [\"*/a.toml\"]", 1, "include", "not in its directory", "on its own"),
];

/// Mistakes in what is added to a good file; lines count from the first added one.
const ADDED: &[Mistake] = &[
    // Names and references.
    wrong(
        "[users.\"a b\"]\nbot = \"support\"\nidentity = \"b\"\nwebhooks = []",
        1,
        "[users.\"a b\"]",
        "can't name a user",
        "another name",
    ),
    wrong(
        "[users.b]\nbot = \"suport\"\nidentity = \"b\"\nwebhooks = []",
        2,
        "[users.b] bot",
        "there is no bot `suport`",
        "did you mean `support`?",
    ),
    wrong(
        "[users.b]\nbot = \"sales\"\nidentity = \"b\"\nwebhooks = []",
        2,
        "[users.b] bot",
        "there is no bot",
        "add `[bots.sales]`",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nidentity = \"b\"\nwebhooks = [\"crm\", \"crn\"]",
        4,
        "[users.b] webhooks",
        "there is no webhook `crn`",
        "did you mean `crm`?",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nidentity = \"b\"\nwebhooks = [\"crm\", \"crm\"]",
        4,
        "[users.b] webhooks",
        "listed twice",
        "remove",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nidentity = \"b\"\nwebhooks = \"crm\"",
        4,
        "[users.b] webhooks",
        "must be an array",
        "did you mean `[\"crm\"]`?",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nidentity = \"alice@example.com\"\nwebhooks = []",
        3,
        "[users.b] identity",
        "has this identity already: [users.alice] at",
        "one connection",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nidentity = \"\"\nwebhooks = []",
        3,
        "[users.b] identity",
        "must not be empty",
        "email",
    ),
    // What is missing.
    wrong(
        "[users.b]\nidentity = \"b\"\nwebhooks = []",
        1,
        "[users.b] bot",
        "is missing",
        "bot = \"support\"",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nwebhooks = []",
        1,
        "[users.b] identity",
        "is missing",
        "add `identity",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nidentity = \"b\"",
        1,
        "[users.b] webhooks",
        "is missing",
        "webhooks = [\"crm\"]",
    ),
    wrong("[webhooks.x]\ntimeout = \"1s\"", 1, "[webhooks.x] url", "is missing", "add `url"),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"",
        1,
        "[bots.b] client_secret",
        "is missing",
        "env",
    ),
    wrong("[clients.c]\nusers = [\"*\"]", 1, "[clients.c] token", "is missing", "API_TOKEN"),
    wrong(
        "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }",
        1,
        "[clients.c] users",
        "is missing",
        "[\"*\"]",
    ),
    // Unknown keys.
    wrong(
        "[users.b]\nbot = \"support\"\nidentity = \"b\"\nwebhook = [\"crm\"]\nwebhooks = []",
        4,
        "[users.b] webhook",
        "unknown key",
        "did you mean `webhooks`?",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nclient_secret = \"x\"\nsecret = \"y\"",
        6,
        "[bots.b] secret",
        "unknown key",
        "did you mean `client_secret`?",
    ),
    // Bots.
    wrong(
        "[bots.b]\nname = \"\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nclient_secret = \"x\"",
        2,
        "[bots.b] name",
        "must not be empty",
        "Support",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nclient_secret = \"x\"\nalgorithm = \"hs256\"",
        6,
        "[bots.b] algorithm",
        "not known here",
        "did you mean `HS256`?",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nclient_secret = \"x\"\nprivate_key = { env = \"RSA_KEY\" }",
        6,
        "[bots.b] private_key",
        "both say where",
        "keep one of",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nprivate_key = { env = \"RSA_KEY\" }\nsts = { url = \"https://sts.example\" }",
        6,
        "[bots.b] sts",
        "both say where",
        "keep one of",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nprivate_key = { env = \"BOT_SECRET\" }",
        5,
        "[bots.b] private_key",
        "no private key in unencrypted PEM",
        "openssl genpkey",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nprivate_key = { env = \"SMALL_KEY\" }",
        5,
        "[bots.b] private_key",
        "at least 2048 bits",
        "openssl genpkey",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nprivate_key = { env = \"RSA_KEY\" }\nalgorithm = \"HS512\"",
        6,
        "[bots.b] algorithm",
        "a private key signs with",
        "client_secret",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nclient_secret = \"x\"\nalgorithm = \"RS256\"",
        6,
        "[bots.b] algorithm",
        "a client secret signs with",
        "private_key",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nsts = { url = \"https://sts.example\" }\nalgorithm = \"RS256\"",
        6,
        "[bots.b] algorithm",
        "the token service signs",
        "remove",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nsts = \"https://sts.example\"",
        5,
        "[bots.b] sts",
        "must be a table",
        "STS_TOKEN",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nsts = { bearer = \"x\" }",
        5,
        "[bots.b] sts.url",
        "is missing",
        "sts.example.com",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nsts = { url = \"http://sts.example\" }",
        5,
        "[bots.b] sts.url",
        "unencrypted",
        "https://",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nsts = { url = \"https://u:p@sts.example\" }",
        5,
        "[bots.b] sts.url",
        "a user or a password",
        "bearer",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nsts = { url = \"https://sts.example\", fields = { identity = \"x\" } }",
        5,
        "[bots.b] sts.fields.identity",
        "sets this field itself",
        "another name",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nsts = { url = \"https://sts.example\", boddy = \"form\" }",
        5,
        "[bots.b] sts.boddy",
        "unknown key",
        "did you mean `body`?",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nprivate_key = { env = \"RSA_KEY\" }\nhistory = \"conversations\"",
        6,
        "[bots.b] history",
        "this bot has `private_key`",
        "client_secret",
    ),
    wrong(
        "[bots.b]\nname = \"B\"\nid = \"st-2\"\nclient_id = \"cs-2\"\nclient_secret = \"x\"\nhistory = \"conversation\"",
        6,
        "[bots.b] history",
        "not known here",
        "did you mean `conversations`?",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nanonymous = \"yes\"\nidentity = \"b\"\nwebhooks = []",
        3,
        "[users.b] anonymous",
        "must be true or false",
        "`true`",
    ),
    wrong(
        "[users.b]\nbot = \"support\"\nanonymous = true\nidentity = \"\"\nwebhooks = []",
        4,
        "[users.b] identity",
        "must not be empty",
        "email",
    ),
    // Webhooks.
    wrong(
        "[webhooks.x]\nurl = \"https://u:p@a.example\"",
        2,
        "[webhooks.x] url",
        "must not hold a user or a password",
        "basic_auth",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example/#x\"",
        2,
        "[webhooks.x] url",
        "must not hold a fragment",
        "`#`",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nevents = []",
        3,
        "[webhooks.x] events",
        "must not be empty",
        "\"*\"",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nevents = [\"bridge.mesage\"]",
        3,
        "[webhooks.x] events",
        "no events of type",
        "did you mean `bridge.message`?",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nevents = [\"bot_*\"]",
        3,
        "[webhooks.x] events",
        "whole names",
        "list each",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nformat = \"envelop\"",
        3,
        "[webhooks.x] format",
        "not known",
        "did you mean `envelope`?",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nbackoff_min = \"6m\"",
        3,
        "[webhooks.x] backoff_min",
        "larger than backoff_max (5m)",
        "",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nmax_in_flight = 0",
        3,
        "[webhooks.x] max_in_flight",
        "too small",
        "",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nbearer = \"a\"\nbasic_auth = { user = \"u\", password = \"p\" }",
        4,
        "[webhooks.x] basic_auth",
        "both set the Authorization header",
        "remove one",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nbearer = \"Bearer abc\"",
        3,
        "[webhooks.x] bearer",
        "without spaces",
        "without `Bearer`",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nbasic_auth = { user = \"a:b\", password = \"p\" }",
        3,
        "[webhooks.x] basic_auth.user",
        "no colon",
        "`password`",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nbasic_auth = { user = \"a\" }",
        3,
        "[webhooks.x] basic_auth.password",
        "is missing",
        "add `password",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nheaders = { Host = \"a\" }",
        3,
        "[webhooks.x] headers.Host",
        "set by the bridge itself",
        "another name",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\n[webhooks.x.headers]\nWebhook-Id = \"a\"",
        4,
        "[webhooks.x] headers.Webhook-Id",
        "set by the bridge",
        "another name",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nheaders = { bridge-user = \"a\" }",
        3,
        "[webhooks.x] headers.bridge-user",
        "set by the bridge",
        "",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nheaders = { \"a b\" = \"a\" }",
        3,
        "[webhooks.x] headers.\"a b\"",
        "is not a header's name",
        "hyphens",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nheaders = { a = \"x\\ny\" }",
        3,
        "[webhooks.x] headers.a",
        "no line breaks",
        "remove",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nheaders = { X-A = \"1\", x-a = \"2\" }",
        3,
        "[webhooks.x] headers.x-a",
        "set twice",
        "letter case",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nbearer = \"a\"\nheaders = { authorization = \"b\" }",
        4,
        "[webhooks.x] headers.authorization",
        "set this header",
        "remove one",
    ),
    // Secrets.
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = \"abc\"",
        3,
        "[webhooks.x] secret",
        "starts with `whsec_`",
        "openssl rand",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = \"whsec_%%%\"",
        3,
        "[webhooks.x] secret",
        "must be base64",
        "openssl rand",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = \"whsec_AAAA\"",
        3,
        "[webhooks.x] secret",
        "24 to 64 bytes, not 3",
        "openssl rand",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = []",
        3,
        "[webhooks.x] secret",
        "must not be empty",
        "leave",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = \"\"",
        3,
        "[webhooks.x] secret",
        "is empty",
        "value",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = 5",
        3,
        "[webhooks.x] secret",
        "must be a secret",
        "env",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { env = \"UNSET\" }",
        3,
        "[webhooks.x] secret",
        "UNSET is not set",
        "set it",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { env = \"EMPTY\" }",
        3,
        "[webhooks.x] secret",
        "EMPTY is empty",
        "value",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { env = \"A B\" }",
        3,
        "[webhooks.x] secret",
        "not the name of an environment variable",
        "CRM_SECRET",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { file = \"no.secret\" }",
        3,
        "[webhooks.x] secret",
        "can't read",
        "create the file",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { file = \".\" }",
        3,
        "[webhooks.x] secret",
        "not a regular file",
        "",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { credential = \"crm\" }",
        3,
        "[webhooks.x] secret",
        "$CREDENTIALS_DIRECTORY is not set",
        "LoadCredential=",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { evn = \"A\" }",
        3,
        "[webhooks.x] secret",
        "no source of a secret",
        "did you mean `env`?",
    ),
    wrong(
        "[webhooks.x]\nurl = \"https://a.example\"\nsecret = { env = \"A\", file = \"b\" }",
        3,
        "[webhooks.x] secret",
        "exactly one source",
        "env",
    ),
    // Clients.
    wrong(
        "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = []",
        3,
        "[clients.c] users",
        "must not be empty",
        "[\"*\"]",
    ),
    wrong(
        "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = \"*\"",
        3,
        "[clients.c] users",
        "must be an array",
        "did you mean `[\"*\"]`?",
    ),
    wrong(
        "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = [\"a b\"]",
        3,
        "[clients.c] users",
        "can't match any user",
        "sales-*",
    ),
    wrong(
        "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = [\"*\"]\nscopes = [\"sned\"]",
        4,
        "[clients.c] scopes",
        "not known here",
        "did you mean `send`?",
    ),
    wrong(
        "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = [\"*\"]\nscopes = []",
        4,
        "[clients.c] scopes",
        "must not be empty",
        "\"admin\"",
    ),
    wrong(
        "[clients.c]\ntoken = \"two words\"\nusers = [\"*\"]",
        2,
        "[clients.c] token",
        "visible ASCII",
        "openssl",
    ),
    wrong(
        "[clients.c]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = [\"*\"]\n[clients.d]\ntoken = { env = \"CRM_API_TOKEN\" }\nusers = [\"*\"]",
        5,
        "[clients.d] token",
        "`c` has the same token",
        "of its own",
    ),
];

#[test]
fn each_mistake_is_reported_with_its_place_and_a_way_out() {
    let added_at = BASE.lines().count();
    let alone = ALONE.iter().map(|mistake| complaint(mistake.text, mistake, 0));
    let added = ADDED.iter().map(|mistake| complaint(&format!("{BASE}{}", mistake.text), mistake, added_at));
    let complaints: Vec<_> = alone.chain(added).flatten().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n----------\n"));
}

/// What is wrong with how a mistake is reported, if anything is.
fn complaint(text: &str, mistake: &Mistake, lines_before: usize) -> Option<String> {
    let Err(errors) = load(text) else {
        return Some(format!("taken for good:\n{}", mistake.text));
    };
    let error = errors.iter().next().expect("at least one");
    // What isn't TOML is sometimes wrong in several ways.
    let count_fits = errors.iter().count() == 1 || error.message.contains("TOML");
    let line_fits = match error.position {
        Some(position) => position.line == mistake.line + lines_before,
        None => mistake.line == 0,
    };
    let fits = count_fits
        && line_fits
        && error.key == mistake.key
        && error.message.contains(mistake.message)
        && error.help.as_deref().unwrap_or_default().contains(mistake.help);
    (!fits).then(|| format!("{}\n\n{errors}\n\nwanted: {} at {}", mistake.text, mistake.key, mistake.line))
}

#[test]
fn the_base_itself_is_fine() {
    let (_, warnings) = load(BASE).unwrap();
    assert_eq!(warnings, []);
}
