//! Entity tags, and the header fields that compare them: RFC 9110, 8.8.3 and 13.1.
//!
//! A field's lines are one list. A tag is what is between its quotes, a comma too. The strong
//! comparison, of `If-Match`, takes no weak tag; the weak one, of `If-None-Match`, does not mind.

use actix_web::http::header::{HeaderMap, HeaderName};

/// What a field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: whatever is there.
    Any,
    /// One of these, at least one.
    These(Vec<EntityTag>),
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag {
    /// It begins with `W/`.
    weak: bool,
    /// What is between the quotes.
    opaque: Vec<u8>,
}

impl EntityTag {
    /// The revision that a tag of ours names; none of a tag of another make.
    fn revision(&self) -> Option<u64> {
        let revision: u64 = std::str::from_utf8(&self.opaque).ok()?.parse().ok()?;
        // Tags are compared to the letter.
        (revision.to_string().as_bytes() == self.opaque).then_some(revision)
    }
}

impl EntityTags {
    /// The revisions that the strong comparison takes; `None` where all are.
    pub fn strong(&self) -> Option<Vec<u64>> {
        let Self::These(tags) = self else {
            return None;
        };
        let strong = tags.iter().filter(|tag| !tag.weak);
        Some(strong.filter_map(EntityTag::revision).collect())
    }

    /// Whether one of them is the tag of this revision, by the strong comparison.
    pub fn has_strong(&self, revision: u64) -> bool {
        self.strong().is_none_or(|tags| tags.contains(&revision))
    }

    /// Whether one of them is the tag of this revision, by the weak comparison.
    pub fn has_weak(&self, revision: u64) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag.revision() == Some(revision)),
        }
    }

    /// Reads all lines of a field; `None` where there is none.
    ///
    /// # Errors
    /// When they are no list of tags and no `*`, in words.
    pub fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, String> {
        let mut lines = headers.get_all(name).peekable();
        if lines.peek().is_none() {
            return Ok(None);
        }
        let (mut tags, mut stars) = (Vec::new(), 0);
        for line in lines {
            read(line.as_bytes(), &mut tags, &mut stars).map_err(|why| {
                format!("{name} {why}: send tags as replies have them, such as \"17\", or *")
            })?;
        }
        match (stars, tags.is_empty()) {
            (0, false) => Ok(Some(Self::These(tags))),
            (1, true) => Ok(Some(Self::Any)),
            (0, true) => Err(format!(
                "{name} names no ETag: send one, or leave the header out"
            )),
            _ => Err(format!("{name} has * beside others: send it alone")),
        }
    }
}

/// Reads a line. An error continues a sentence that begins with the field's name.
fn read(line: &[u8], tags: &mut Vec<EntityTag>, stars: &mut usize) -> Result<(), &'static str> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        match rest {
            [] => return Ok(()),
            // An element of the list may be empty.
            [b',', behind @ ..] => {
                rest = behind;
                continue;
            }
            [b'*', behind @ ..] => {
                *stars += 1;
                rest = behind;
            }
            _ => {
                let (tag, behind) = tag(rest)?;
                tags.push(tag);
                rest = behind;
            }
        }
        match rest.trim_ascii_start() {
            [] => return Ok(()),
            [b',', behind @ ..] => rest = behind,
            _ => return Err("has something behind a tag that is no comma"),
        }
    }
}

/// The tag at the beginning, and what comes behind it.
fn tag(text: &[u8]) -> Result<(EntityTag, &[u8]), &'static str> {
    let (weak, quoted) = match text {
        [b'W', b'/', quoted @ ..] => (true, quoted),
        quoted => (false, quoted),
    };
    let [b'"', opaque @ ..] = quoted else {
        return Err("has a tag without quotes");
    };
    let end = opaque.iter().position(|b| *b == b'"');
    let end = end.ok_or("has a tag whose quotes do not end")?;
    let (opaque, behind) = opaque.split_at(end);
    if !opaque
        .iter()
        .all(|b| matches!(b, 0x21 | 0x23..=0x7e | 0x80..))
    {
        return Err("has a tag with a blank in it");
    }
    let tag = EntityTag {
        weak,
        opaque: opaque.to_vec(),
    };
    Ok((tag, behind.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderValue, IF_MATCH};

    fn read(lines: &[&str]) -> Result<Option<EntityTags>, String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        EntityTags::of(&headers, &IF_MATCH)
    }

    #[test]
    fn all_lines_are_one_list_and_commas_in_quotes_are_none() {
        assert_eq!(read(&[]), Ok(None));
        let tags = |lines| match read(lines) {
            Ok(Some(EntityTags::These(tags))) => tags
                .iter()
                .map(|tag| (tag.weak, String::from_utf8(tag.opaque.clone()).unwrap()))
                .collect::<Vec<_>>(),
            other => panic!("{lines:?}: {other:?}"),
        };
        let tag = |weak, opaque: &str| (weak, opaque.to_owned());
        assert_eq!(tags(&["\"17\""]), [tag(false, "17")]);
        assert_eq!(tags(&["W/\"17\""]), [tag(true, "17")]);
        assert_eq!(tags(&["\"\""]), [tag(false, "")]);
        let three = [tag(false, "a,b"), tag(true, ","), tag(false, "W/")];
        assert_eq!(tags(&["\"a,b\",W/\",\", \"W/\""]), three);
        assert_eq!(tags(&["\"a,b\" ,", ",, W/\",\"\t,\"W/\""]), three);
        assert_eq!(tags(&["", "\"ü\""]), [tag(false, "ü")]);
        for star in [&["*"] as &[_], &[" * "], &["*,"], &["", "*"]] {
            assert_eq!(read(star), Ok(Some(EntityTags::Any)), "{star:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for wrong in [
            &[""] as &[_],
            &[",", " "],
            &["17"],
            &["\"17"],
            &["17\""],
            &["\"1\" \"2\""],
            &["\"1\"\"2\""],
            &["w/\"1\""],
            &["W/ \"1\""],
            &["W/1"],
            &["W/"],
            &["\"a b\""],
            &["\"a\tb\""],
            &["*, \"1\""],
            &["\"1\"", "*"],
            &["*", "*"],
            &["**"],
            &["\"1\";q=1"],
            &["\"1\"", "2"],
        ] {
            let refused = read(wrong).expect_err(&format!("{wrong:?}"));
            assert!(
                refused.starts_with("if-match ") && refused.contains(": "),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_weak_tag_matches_weakly_alone_and_all_tags_to_the_letter() {
        let tags = |lines| read(lines).unwrap().unwrap();
        for (lines, strong, weak) in [
            (&["\"17\""] as &[_], true, true),
            (&["\"1\", \"17\""], true, true),
            (&["\"1\"", "\"17\""], true, true),
            (&["W/\"17\""], false, true),
            (&["W/\"1\", W/\"17\""], false, true),
            (&["W/\"17\", \"17\""], true, true),
            (&["*"], true, true),
            (&["\"1\""], false, false),
            (&["\"1,17\""], false, false),
            (&["\"017\""], false, false),
            (&["\"+17\""], false, false),
            (&["\"\""], false, false),
            (&["\"99999999999999999999999\""], false, false),
        ] {
            let tags = tags(lines);
            assert_eq!(tags.has_strong(17), strong, "{lines:?}");
            assert_eq!(tags.has_weak(17), weak, "{lines:?}");
        }
    }
}
