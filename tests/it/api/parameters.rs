//! Parameters of paths and queries: what is taken in which spelling, and in which words the rest is refused.

use serde_json::{Value, json};

use crate::support::{Human, People};

async fn refusal(world: &People, who: &Human, route: &str) -> (Value, String) {
    let body = world.refused(who, route, &Value::Null, 422, "validation_error").await;
    let detail = &body["detail"][0];
    assert_eq!(body["message"], detail["msg"]);
    (detail["loc"].clone(), detail["msg"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn limits_are_never_refused_for_their_size_and_empty_is_absent() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    world.say(&bob, id, "hello").await;
    let messages = format!("/conversations/{id}/messages");
    let lists = ["/conversations", "/conversations/archived", "/users", "/users/search", "/messages/starred", &messages];
    for path in lists {
        for (query, limit) in [
            ("limit=99999999999999999999", 100),
            ("limit=-99999999999999999999", 1),
            ("limit=", 50),
            ("limit=7&offset=&cursor=", 7),
            ("offset=-99999999999999999999", 50),
        ] {
            let page = world.get(&ada, &format!("GET {path}?{query}")).await;
            assert_eq!(page["limit"], limit, "{path}?{query}");
        }
        world.get(&ada, &format!("GET {path}?offset=99999999999999999999")).await;
        let (loc, msg) = refusal(&world, &ada, &format!("GET {path}?limit=ten")).await;
        assert_eq!((loc, msg.as_str()), (json!(["query", "limit"]), "limit must be a whole number"));
    }
    let page = world.get(&ada, &format!("GET {messages}?before=&after=&before_seq=&after_seq=&cursor=")).await;
    assert_eq!(page["messages"][0]["content"], "hello");
    for limit in ["99999999999999999999", "-5"] {
        let synced = world.call(&ada, "POST /sync", &serde_json::from_str(&format!(r#"{{"limit": {limit}}}"#)).unwrap()).await;
        assert_eq!(synced["conversations"][0]["id"], json!(id));
    }
    let body = world.refused(&ada, "POST /sync", &json!({"limit": "ten"}), 422, "validation_error").await;
    assert_eq!(body["detail"][0]["loc"], json!(["body", "limit"]));
    world.server.stop().await;
}

#[tokio::test]
async fn camel_case_is_understood_in_queries_too() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let (first, second) = (world.say(&bob, id, "first").await, world.say(&bob, id, "second").await);
    let contents = async |query: String| {
        let page = world.get(&ada, &format!("GET /api/conversations/{id}/messages?{query}")).await;
        page["messages"].as_array().unwrap().iter().map(|message| message["content"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(contents(format!("beforeSeq={}", second.seq)).await, ["first"]);
    assert_eq!(contents(format!("beforeSeq={}&before_seq={}", second.seq, second.seq + 1)).await, ["first", "second"]);
    assert_eq!(contents(format!("afterSeq={}", first.seq)).await, ["second"]);
    let privacy = world.get(&ada, "PUT /settings/privacy?showLastSeen=false").await;
    assert_eq!(privacy["show_last_seen"], false);
    world.server.stop().await;
}

#[tokio::test]
async fn refusals_name_the_parameter_and_what_it_takes() {
    let world = People::start().await;
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let id = world.direct(&ada, &bob).await;
    let said = world.say(&ada, id, "hello").await.id;
    let one = |loc: Value, msg: &str| (loc, msg.to_owned());
    assert_eq!(refusal(&world, &ada, "GET /conversations/nonsense").await, one(json!(["path", "id"]), "id must be a UUID"));
    assert_eq!(refusal(&world, &ada, "GET /users/nonsense").await, one(json!(["path", "user_id"]), "user_id must be a UUID"));
    assert_eq!(
        refusal(&world, &ada, &format!("DELETE /messages/{said}?scope=some")).await,
        one(json!(["query", "scope"]), "scope must be everyone or me")
    );
    assert_eq!(
        refusal(&world, &ada, &format!("GET /messages/{said}/receipts?kind=seen")).await,
        one(json!(["query", "kind"]), "kind must be read or delivered")
    );
    assert_eq!(
        refusal(&world, &ada, "PUT /settings/privacy?show_last_seen=perhaps").await,
        one(json!(["query", "show_last_seen"]), "show_last_seen must be true or false")
    );
    // Values are understood in any case.
    world.get(&ada, &format!("GET /messages/{said}/receipts?kind=READ")).await;
    world.get(&ada, &format!("DELETE /messages/{said}?scope=Everyone")).await;
    // Which methods a path takes is known for those with parameters, too.
    let response = world.send(&format!("PATCH /messages/{said}"), Some(&ada.token), &Value::Null).await;
    let allow = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(["GET", "PUT", "DELETE"].iter().all(|method| allow.contains(method)), "{allow}");
    world.server.stop().await;
}
