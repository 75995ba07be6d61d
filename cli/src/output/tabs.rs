//! Aligned columns as kubectl prints them: cells end in a tab, and the cells of adjacent lines that stand in the same
//! column are as wide as the widest of them.

/// Distance and least width of columns.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub width_min: usize,
    pub padding: usize,
}

/// `get` and everything else that prints rows.
pub const TABLE: Style = Style { width_min: 6, padding: 3 };
/// `describe`.
pub const DESCRIBE: Style = Style { width_min: 0, padding: 2 };

/// Aligns a text at its tabs.
pub fn align(text: &str, style: Style) -> String {
    align_from(text, style, &mut Vec::new())
}

/// Like [`align`], never narrower than before: `widths` are those of the text printed last, and then those of this one.
pub fn align_from(text: &str, style: Style, widths: &mut Vec<usize>) -> String {
    let ended = text.ends_with('\n');
    let lines: Vec<Vec<&str>> =
        text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| line.split('\t').collect()).collect();
    let mut cell_widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = lines.iter().map(|cells| cells.len() - 1).max().unwrap_or(0);
    let mut used = vec![0; columns];
    for column in 0..columns {
        let mut at = 0;
        while at < lines.len() {
            let block = at..at + lines[at..].iter().take_while(|cells| cells.len() - 1 > column).count();
            if block.is_empty() {
                at += 1;
                continue;
            }
            let widest =
                lines[block.clone()].iter().map(|cells| cells[column].chars().count() + style.padding).max().unwrap_or(0);
            let width = widest.max(style.width_min).max(widths.get(column).copied().unwrap_or(0));
            used[column] = width.max(used[column]);
            cell_widths[block.clone()].iter_mut().for_each(|row| row[column] = width);
            at = block.end;
        }
    }
    *widths = used;
    let mut out = String::with_capacity(text.len() * 2);
    for (number, (cells, widths)) in lines.iter().zip(&cell_widths).enumerate() {
        if number > 0 {
            out.push('\n');
        }
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        out.push_str(cells[cells.len() - 1]);
    }
    if ended {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            align("NAME\tAGE\nlonger-name\t5m\nx\t1d\n", TABLE),
            "NAME          AGE\nlonger-name   5m\nx             1d\n"
        );
        assert_eq!(align("A\tB\na\tb\n", TABLE), "A     B\na     b\n");
        assert_eq!(align("ä\tB\nab\tb\n", TABLE), "ä     B\nab    b\n");
    }

    #[test]
    fn a_line_without_the_cell_ends_a_column() {
        let text = "Name:\tx\nLabels:\ta=b\n\tc=d\nSpec:\n  Long key:\tv\n";
        assert_eq!(align(text, DESCRIBE), "Name:    x\nLabels:  a=b\n         c=d\nSpec:\n  Long key:  v\n");
    }

    #[test]
    fn later_rows_keep_the_width() {
        let mut widths = Vec::new();
        align_from("NAME\tAGE\nvery-long-name\t5m\n", TABLE, &mut widths);
        assert_eq!(align_from("x\t6m\n", TABLE, &mut widths), "x                6m\n");
    }
}
