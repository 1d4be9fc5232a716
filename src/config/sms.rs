//! Who sends one-time codes: told by `sms.provider`, or in production by Twilio's settings being there. Development sends
//! real messages only when told to, and production never writes codes to its log.

use super::{Reader, SmsProvider, value};

/// The provider that the settings name; what is wrong with them is noted in `read`.
pub(super) fn sms_provider(read: &Reader<'_>, production: bool, warnings: &mut Vec<String>) -> SmsProvider {
    let account_sid = read.text("sms.twilio_account_sid");
    let auth_token = read.hidden("sms.twilio_auth_token");
    let from = read.text("sms.twilio_from");
    let url = read.need("sms.twilio_url", value::url, String::new());
    let wanted = read.get("sms.provider", |text| match text {
        "log" => Ok(false),
        "twilio" => Ok(true),
        _ => Err("is neither twilio nor log".to_owned()),
    });
    let is_set_up = account_sid.is_some() || auth_token.is_some();
    if is_set_up && !production && wanted.is_none() {
        warnings
            .push("a Twilio account is set, but in development codes go to the log: to send SMS, set URGE_SMS_PROVIDER=twilio".to_owned());
    }
    let twilio = wanted.unwrap_or(is_set_up && production);
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
