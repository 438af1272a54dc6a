//! Every change that could be made: where in which file, and the text that stands there behind a switch.

use anyhow::{Context, Result};
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, GenericArgument, PathArguments, ReturnType, Stmt, Type, UnOp};

/// One small change of the code.
#[derive(Clone)]
pub struct Mutant {
    /// The file, relative to the checkout.
    pub file: String,
    /// Its line there, from 1.
    pub line: usize,
    /// What it does.
    what: String,
    /// The bytes of the file that it takes the place of; empty where it is put in.
    pub span: Range<usize>,
    /// The text that stands there then, with `@` for the switch.
    text: String,
}

impl Mutant {
    /// The text that stands in place of its span, as number `n`.
    pub fn text(&self, n: usize) -> String {
        self.text.replace('@', &format!("crate::mutant::on({n})"))
    }

    pub fn overlaps(&self, other: &Mutant) -> bool {
        self.file == other.file && self.span.start <= other.span.end && other.span.start <= self.span.end
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// The mutants of all source files whose path begins with one of `prefixes`, tests left out.
pub fn in_tree(root: &Path, prefixes: &[&str]) -> Result<Vec<Mutant>> {
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files)?;
    files.sort();
    let mut mutants = Vec::new();
    for path in files {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let is_test = name.ends_with("tests.rs")
            || name.ends_with("property.rs")
            || name.contains("/tests/")
            || name.ends_with("testkit.rs");
        if is_test || !prefixes.iter().any(|p| name.starts_with(p)) {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let file = syn::parse_file(&text).with_context(|| name.clone())?;
        let mut finder = Finder { name: &name, text: &text, function: String::new(), mutants: &mut mutants };
        finder.visit_file(&file);
    }
    Ok(mutants)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

struct Finder<'a> {
    name: &'a str,
    text: &'a str,
    function: String,
    mutants: &'a mut Vec<Mutant>,
}

impl Finder<'_> {
    fn source(&self, item: &impl Spanned) -> &str {
        &self.text[item.span().byte_range()]
    }

    fn add(&mut self, at: Range<usize>, what: String, text: String) {
        // Nothing outside of functions: constants cannot ask a switch. A source text with the sign of the switch stays.
        if self.function.is_empty() || text.matches('@').count() != 1 {
            return;
        }
        let line = self.text[..at.start].lines().count().max(1);
        let what = format!("{what} in {}", self.function);
        self.mutants.push(Mutant { file: self.name.into(), line, what, span: at, text });
    }

    fn either(&mut self, at: &impl Spanned, what: String, changed: String) {
        let text = format!("(if @ {{ {changed} }} else {{ {} }})", self.source(at));
        self.add(at.span().byte_range(), what, text);
    }

    fn function(&mut self, sig: &syn::Signature, block: &syn::Block) {
        let outer = std::mem::replace(&mut self.function, sig.ident.to_string());
        if sig.constness.is_some() || sig.ident == "fmt" {
            self.function.clear();
        }
        let start = block.span().byte_range().start + 1;
        for value in values(&sig.output) {
            let text = format!(" if @ {{ return {value}; }} ");
            self.add(
                start..start,
                format!("return {}", if value.is_empty() { "at once" } else { &value }),
                text,
            );
        }
        visit::visit_block(self, block);
        self.function = outer;
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|a| a.path().is_ident("cfg"));
        if !is_test {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !item.attrs.iter().any(|a| a.path().is_ident("cfg") || a.path().is_ident("test")) {
            self.function(&item.sig, &item.block);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !item.attrs.iter().any(|a| a.path().is_ident("cfg")) {
            self.function(&item.sig, &item.block);
        }
    }

    fn visit_stmt(&mut self, stmt: &'ast Stmt) {
        // A check: what it finds is an error, and nothing else is used of it.
        if let Stmt::Expr(Expr::Try(_), Some(_)) = stmt {
            let text = format!("if !@ {{ {} }}", self.source(stmt));
            self.add(stmt.span().byte_range(), format!("without '{}'", short(self.source(stmt))), text);
        }
        visit::visit_stmt(self, stmt);
    }

    fn visit_expr_binary(&mut self, e: &'ast syn::ExprBinary) {
        if !has_let(&e.left) && !has_let(&e.right) {
            for op in others(&e.op) {
                let changed = format!("{} {op} {}", self.source(&e.left), self.source(&e.right));
                let what = format!("{op} for {} in '{}'", self.source(&e.op), short(self.source(e)));
                self.either(e, what, changed);
            }
        }
        visit::visit_expr_binary(self, e);
    }

    fn visit_expr_unary(&mut self, e: &'ast syn::ExprUnary) {
        if matches!(e.op, UnOp::Not(_)) {
            let changed = self.source(&e.expr).to_owned();
            self.either(e, format!("without ! in '{}'", short(self.source(e))), changed);
        }
        visit::visit_expr_unary(self, e);
    }

    fn visit_expr_match(&mut self, e: &'ast syn::ExprMatch) {
        let has_rest = e.arms.iter().any(|arm| matches!(arm.pat, syn::Pat::Wild(_)) && arm.guard.is_none());
        for arm in &e.arms {
            if has_rest && !matches!(arm.pat, syn::Pat::Wild(_)) && arm.guard.is_none() {
                let end = arm.pat.span().byte_range().end;
                let what = format!("without the arm '{}'", short(self.source(&arm.pat)));
                self.add(end..end, what, " if !@".into());
            }
        }
        visit::visit_expr_match(self, e);
    }
}

/// Values to return in place of what a function makes, by its type.
fn values(output: &ReturnType) -> Vec<String> {
    match output {
        ReturnType::Default => vec![String::new()],
        ReturnType::Type(_, ty) => of_type(ty),
    }
}

fn of_type(ty: &Type) -> Vec<String> {
    let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect();
    match ty {
        Type::Tuple(t) if t.elems.is_empty() => texts(&["()"]),
        Type::Path(p) => {
            let Some(last) = p.path.segments.last() else { return Vec::new() };
            let inner = match &last.arguments {
                PathArguments::AngleBracketed(a) => match a.args.first() {
                    Some(GenericArgument::Type(t)) => of_type(t),
                    _ => Vec::new(),
                },
                _ => Vec::new(),
            };
            match last.ident.to_string().as_str() {
                "bool" => texts(&["true", "false"]),
                "String" => texts(&["String::new()"]),
                "Vec" => texts(&["Vec::new()"]),
                "Option" => texts(&["None"]),
                "u8" | "u16" | "u32" | "u64" | "usize" => texts(&["0", "1"]),
                "Result" => inner.into_iter().map(|v| format!("Ok({v})")).collect(),
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

fn others(op: &BinOp) -> &'static [&'static str] {
    match op {
        BinOp::Eq(_) => &["!="],
        BinOp::Ne(_) => &["=="],
        BinOp::Lt(_) => &["<=", ">"],
        BinOp::Le(_) => &["<", ">"],
        BinOp::Gt(_) => &[">=", "<"],
        BinOp::Ge(_) => &[">", "<"],
        BinOp::And(_) => &["||"],
        BinOp::Or(_) => &["&&"],
        BinOp::Add(_) => &["-"],
        BinOp::Sub(_) => &["+"],
        BinOp::Mul(_) => &["+"],
        BinOp::Div(_) => &["*"],
        BinOp::Rem(_) => &["/"],
        BinOp::AddAssign(_) => &["-="],
        BinOp::SubAssign(_) => &["+="],
        BinOp::BitAnd(_) => &["|"],
        BinOp::BitOr(_) => &["&"],
        _ => &[],
    }
}

/// True where `e` binds names, which a copy of it in another branch would not do for what follows.
fn has_let(e: &Expr) -> bool {
    struct Lets(bool);
    impl Visit<'_> for Lets {
        fn visit_expr_let(&mut self, _: &syn::ExprLet) {
            self.0 = true;
        }
        fn visit_expr_block(&mut self, _: &syn::ExprBlock) {}
        fn visit_expr_closure(&mut self, _: &syn::ExprClosure) {}
        fn visit_expr_if(&mut self, _: &syn::ExprIf) {}
    }
    let mut lets = Lets(false);
    lets.visit_expr(e);
    lets.0
}

fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(70).collect()
}
