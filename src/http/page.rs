//! `GET /`: the node at a glance, for a person with a browser. One page without scripts or foreign
//! assets; it reloads itself.

use super::host::Surface;
use super::problem::Problem;
use super::words;
use crate::api::status::{MemberStatus, PartitionStatus, PeerStatus, Status};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use std::fmt::Write;

const TOP: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Causeway</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #8884 }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.bad { color: #c33; font-weight: 600 }
</style></head><body>
"#;

const BOTTOM: &str = r#"<p><a href="/status">status</a> · <a href="/metrics">metrics</a> ·
<a href="/openapi.json">OpenAPI</a> · <a href="/health">health</a> · <a href="/ready">ready</a></p>
</body></html>
"#;

/// A page about the node.
#[utoipa::path(
    method(get, head), path = "/", operation_id = "page", tag = "operations",
    responses((status = 200, body = String, content_type = "text/html", description = "The page"))
)]
pub async fn page(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, html))
        .body(render(&words::status::status(&surface.node))))
}

fn render(status: &Status) -> String {
    let mut page = String::from(TOP);
    heading(&mut page, status);
    let numbers = [
        ("Live keys", status.keys),
        ("Deleted keys still remembered", status.tombstones),
        ("Writes that some replica may lack", status.unstable),
        ("Reads that wait", status.stalled_reads),
        ("Bytes on disk", status.storage_bytes),
        ("Bytes free", status.free_bytes),
        ("Bytes to stay free", status.reserve_bytes),
        ("Seconds up", status.uptime_seconds),
    ];
    page.push_str("<table>\n");
    for (name, number) in numbers {
        row(&mut page, &format!("<th>{name}</th>{}", cell(number)));
    }
    page.push_str("</table>\n<h2>Replicas of the same partition</h2>\n<table>\n");
    row(
        &mut page,
        "<th>node</th><th></th><th>it lacks</th><th>we lack</th>",
    );
    for PeerStatus {
        node,
        alive,
        lag,
        behind,
        ..
    } in &status.peers
    {
        let (node, state) = (link(node), state(*alive));
        row(
            &mut page,
            &format!(
                "<td>{node}</td><td>{state}</td>{}{}",
                cell(*lag),
                cell(*behind)
            ),
        );
    }
    let view = &status.view;
    // Writing to a String does not fail.
    let _ = writeln!(
        page,
        "</table>\n<h2>View {}, K = {}</h2>\n<table>",
        view.number, view.k
    );
    row(&mut page, "<th>partition</th><th>members</th>");
    for PartitionStatus {
        partition_id,
        members,
    } in &view.partitions
    {
        let members: Vec<String> = members.iter().map(member).collect();
        row(
            &mut page,
            &format!("<td>{partition_id}</td><td>{}</td>", members.join(", ")),
        );
    }
    page.push_str("</table>\n");
    page.push_str(BOTTOM);
    page
}

fn heading(page: &mut String, status: &Status) {
    let class = if status.state == "serving" { "" } else { "bad" };
    let _ = writeln!(
        page,
        "<h1>{}</h1>\n<p class=\"{class}\">{}{}</p>\n<p>Partition {}, member {}, Causeway {}</p>",
        escape(&status.node),
        escape(&status.state),
        status
            .reason
            .as_ref()
            .map(|why| format!(": {}", escape(why)))
            .unwrap_or_default(),
        number(status.partition_id),
        number(status.member.map(u32::from)),
        escape(&status.version),
    );
}

fn number(number: Option<u32>) -> String {
    number.map_or_else(|| "none".to_owned(), |n| n.to_string())
}

fn row(page: &mut String, cells: &str) {
    let _ = writeln!(page, "<tr>{cells}</tr>");
}

fn cell(number: u64) -> String {
    format!("<td class=\"number\">{number}</td>")
}

fn member(member: &MemberStatus) -> String {
    if member.alive {
        link(&member.node)
    } else {
        format!("{} ({})", link(&member.node), state(false))
    }
}

fn link(node: &str) -> String {
    let node = escape(node);
    format!("<a href=\"http://{node}/\">{node}</a>")
}

fn state(alive: bool) -> &'static str {
    if alive {
        "alive"
    } else {
        "<span class=\"bad\">not heard from</span>"
    }
}

/// Makes text safe between tags and in quoted attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
