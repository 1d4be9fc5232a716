//! Who sends one-time codes: told by `sms.provider`, or by Twilio's settings being there.
//! Production never writes codes to its log.

use super::{Reader, SmsProvider, value};

/// The provider that the settings name; what is wrong with them is noted in `read`.
pub(super) fn sms_provider(read: &Reader<'_>, production: bool) -> SmsProvider {
    let account_sid = read.text("sms.twilio_account_sid");
    let auth_token = read.hidden("sms.twilio_auth_token");
    let from = read.text("sms.twilio_from");
    let url = read.need("sms.twilio_url", value::url, String::new());
    let wanted = read.get("sms.provider", |text| match text {
        "log" => Ok(false),
        "twilio" => Ok(true),
        _ => Err("is neither twilio nor log".to_owned()),
    });
    let twilio = wanted.unwrap_or(account_sid.is_some() || auth_token.is_some());
    if !twilio {
        if production {
            read.refuse("sms.provider", "production does not write one-time codes to the log: set up twilio");
        }
        return SmsProvider::Log;
    }
    let missing = [
        ("sms.twilio_account_sid", account_sid.is_none()),
        ("sms.twilio_auth_token", auth_token.is_none()),
        ("sms.twilio_from", from.is_none()),
    ];
    if let (Some(account_sid), Some(auth_token), Some(from)) = (account_sid, auth_token, from) {
        return SmsProvider::Twilio { account_sid, auth_token, from, url };
    }
    for (key, _) in missing.iter().filter(|(_, missing)| *missing) {
        read.refuse(key, "Twilio needs it");
    }
    SmsProvider::Log
}
