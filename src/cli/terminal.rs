//! Text on its way to a terminal. What a node says, and what is stored there, may hold control
//! characters, which a terminal takes for orders: they are shown as JSON writes them, `\u001b`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with its control characters, and those that turn the direction of writing, escaped.
/// Line ends and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_order) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_order(c) {
            // Writing to a String does not fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_order(c: char) -> bool {
    let stays = matches!(c, '\n' | '\t');
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !stays) || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_nothing_else() {
        for plain in [
            "",
            "a b",
            "two\nlines\tand a tab",
            "é 🐟 \u{301}",
            "\\u001b",
        ] {
            assert_eq!(shown(plain), plain);
        }
        for (text, safe) in [
            ("\u{1b}[31mred", "\\u001b[31mred"),
            ("a\rb\u{7}\u{0}\u{8}", "a\\u000db\\u0007\\u0000\\u0008"),
            ("\u{9b}2J\u{7f}", "\\u009b2J\\u007f"),
            ("\u{202e}gpj.exe", "\\u202egpj.exe"),
        ] {
            assert_eq!(shown(text), safe);
        }
    }
}
