//! Questions to whoever sits at the terminal, or to the script that writes lines into a pipe.

use crate::cli::failure::{Failure, print, print_as_it_is};
use crate::cli::terminal::shown;
use console::style;
use dialoguer::theme::ColorfulTheme;
use dialoguer::{BasicHistory, FuzzySelect, Input};
use std::io::{BufRead, IsTerminal, stderr, stdin, stdout};

/// Where answers come from.
pub enum Asker {
    /// Arrow keys, typing to narrow the choice, and a history of what was typed.
    Terminal {
        theme: Box<ColorfulTheme>,
        history: BasicHistory,
    },
    /// A line each.
    Lines {
        /// Some line was no answer, and the next one was taken instead.
        refused: bool,
    },
}

/// `None`: nothing more will come.
type Answer<T> = Result<Option<T>, Failure>;

impl Asker {
    pub fn new() -> Self {
        if !stdin().is_terminal() || !stderr().is_terminal() {
            return Self::Lines { refused: false };
        }
        Self::Terminal {
            theme: Box::default(),
            history: BasicHistory::new().max_entries(100).no_duplicates(true),
        }
    }

    /// Whether lines come from a script.
    pub fn is_script(&self) -> bool {
        matches!(self, Self::Lines { .. })
    }

    /// Whether some line of a script was no answer to its question.
    pub fn has_refused(&self) -> bool {
        matches!(self, Self::Lines { refused: true })
    }

    /// Has one of `items` chosen. A line of a script names it by its number, from 1, or by its
    /// first word.
    pub fn choose(&mut self, question: &str, items: &[String]) -> Answer<usize> {
        match self {
            Self::Terminal { theme, .. } => FuzzySelect::with_theme(&**theme)
                .with_prompt(question)
                .items(items)
                .default(0)
                .interact_opt()
                .map_err(broken),
            Self::Lines { refused } => loop {
                let Some(line) = line(question)? else {
                    return Ok(None);
                };
                if let Some(index) = number(&line, items) {
                    return Ok(Some(index));
                }
                *refused = true;
                wrong(&format!(
                    "{line:?} is none of the choices: give a number from 1 to {}",
                    items.len()
                ))?;
            },
        }
    }

    /// Has a text typed that `check` has nothing against.
    pub fn text(
        &mut self,
        question: &str,
        check: fn(&str) -> Result<(), String>,
    ) -> Answer<String> {
        match self {
            Self::Terminal { theme, history } => Input::<String>::with_theme(&**theme)
                .with_prompt(question)
                .allow_empty(true)
                .history_with(history)
                .validate_with(|text: &String| check(text))
                .interact_text()
                .map(Some)
                .map_err(broken),
            Self::Lines { refused } => loop {
                let Some(line) = line(question)? else {
                    return Ok(None);
                };
                let Err(why) = check(&line) else {
                    return Ok(Some(line));
                };
                *refused = true;
                wrong(&why)?;
            },
        }
    }
}

/// The choice that a line names.
fn number(line: &str, items: &[String]) -> Option<usize> {
    let line = line.trim();
    if let Ok(n) = line.parse::<usize>() {
        return n.checked_sub(1).filter(|index| *index < items.len());
    }
    let first = |item: &String| item.split_whitespace().next().map(str::to_lowercase);
    let line = line.to_lowercase();
    items
        .iter()
        .position(|item| first(item).as_deref() == Some(&line))
}

/// The next line of a script, without its end.
fn line(question: &str) -> Answer<String> {
    print(format_args!("{question}:"))?;
    let mut line = String::new();
    match stdin().lock().read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned())),
        Err(error) => Err(Failure::not_done(format!("cannot read stdin: {error}"))),
    }
}

/// Shows that something did not go well.
pub fn wrong(text: &str) -> Result<(), Failure> {
    let error = style("error:").red().bold();
    print_as_it_is(format_args!("{error} {}", shown(text)))
}

/// Shows what came of a choice.
pub fn good(text: &str) -> Result<(), Failure> {
    match stdout().is_terminal() {
        true => print_as_it_is(style(shown(text)).green()),
        false => print_as_it_is(text),
    }
}

fn broken(error: dialoguer::Error) -> Failure {
    Failure::not_done(format!("the terminal cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_choice_by_number_or_first_word() {
        let items = ["Write a key", "Node status", "Exit"].map(str::to_owned);
        for (line, index) in [("1", 0), (" 3 ", 2), ("exit", 2), ("NODE", 1)] {
            assert_eq!(number(line, &items), Some(index), "{line}");
        }
        for line in ["0", "4", "-1", "", "a", "writes", "99999999999999999999999"] {
            assert_eq!(number(line, &items), None, "{line}");
        }
    }
}
