use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use crate::{ColumnId, CommentTarget, Datum, SchemaId, SequenceDef, SequencePosition, SqlType, TableId, sql_type::FIELD_COLUMN_ID};

/// The schema that exists from the start; its id is Postgres' oid of `public`.
pub const DEFAULT_SCHEMA: (SchemaId, &str) = (SchemaId(2200), "public");

/// All definitions at one LSN. Cheap to clone: definitions are shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// Schemas by id.
    pub schemas: BTreeMap<SchemaId, Arc<SchemaDef>>,
    /// Tables by id.
    pub tables: BTreeMap<TableId, Arc<TableDef>>,
    /// Views by id; ids are shared with tables.
    pub views: BTreeMap<TableId, Arc<ViewDef>>,
    /// Sequences by id; ids are shared with tables.
    pub sequences: BTreeMap<TableId, Arc<SequenceDef>>,
    /// COMMENT ON: texts by what they are about, which is there.
    pub comments: BTreeMap<CommentTarget, Arc<str>>,
}

/// A schema (namespace).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaDef {
    /// Its id.
    pub id: SchemaId,
    /// Its name, unique.
    pub name: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableDef {
    /// Its id.
    pub id: TableId,
    /// The schema it is in.
    pub schema: SchemaId,
    /// Its name, unique among tables, views, sequences and indexes of the schema.
    pub name: String,
    /// Counts definition changes and truncations; a commit names the version it was planned with.
    pub version: u64,
    /// Columns in SQL order.
    pub columns: Vec<ColumnDef>,
    /// The id that the next added column gets.
    pub next_column_id: ColumnId,
    /// Constraints and indexes in the order they were declared (NOT NULL is a property of the column).
    pub constraints: Vec<ConstraintDef>,
    /// The clustering key: segments are sorted by it. The primary key's columns unless said otherwise; may be empty.
    pub clustering: Vec<ColumnId>,
    /// What [`TableDef::arrow_schema`] and [`TableDef::arrow_schema_nullable`] gave the first time.
    pub arrow: MadeSchemas,
}

/// Arrow schemas that were made of a definition's columns, kept because every statement asks for them. No part of the definition: all are
/// equal, and a clone, which may be about to be changed, begins without.
#[derive(Default)]
pub struct MadeSchemas {
    exact: OnceLock<MadeSchema>,
    nullable: OnceLock<MadeSchema>,
}

/// A schema, and the columns that it was made of.
type MadeSchema = (Vec<(ColumnId, SqlType, bool)>, SchemaRef);

impl Clone for MadeSchemas {
    fn clone(&self) -> Self {
        MadeSchemas::default()
    }
}

impl PartialEq for MadeSchemas {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for MadeSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MadeSchemas")
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    /// Its id.
    pub id: ColumnId,
    /// Its name, unique in the table.
    pub name: String,
    /// Its type.
    pub ty: SqlType,
    /// False for NOT NULL and primary key columns.
    pub nullable: bool,
    /// The DEFAULT expression as SQL text, evaluated for each inserted row.
    pub default: Option<String>,
    /// The value of rows that were stored before the column was there: its default as it was then. `None` is NULL.
    pub missing: Option<Datum>,
    /// NOT NULL came later than the column: rows that were deleted before may hold a NULL still.
    pub had_nulls: bool,
    /// Values come from a sequence, or from the row's other values.
    pub generated: Option<Generated>,
}

/// Where the values of a generated column come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generated {
    /// GENERATED … AS IDENTITY: from the sequence that the column owns.
    Identity {
        /// The sequence.
        sequence: TableId,
        /// GENERATED ALWAYS: a statement may not give a value.
        always: bool,
    },
    /// GENERATED ALWAYS AS (expression) STORED: the expression as SQL text over the table's column names.
    Stored(String),
}

/// A table constraint, or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintDef {
    /// Its name, unique in the table; for PRIMARY KEY and UNIQUE also that of their index. An index's name is unique among those of the
    /// schema's relations.
    pub name: String,
    /// What it says.
    pub kind: ConstraintKind,
    /// When a key, or a foreign key, is checked.
    pub deferrable: Deferrable,
}

/// What a constraint says, or what an index is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// PRIMARY KEY (columns).
    PrimaryKey(Vec<ColumnId>),
    /// UNIQUE (columns): rows with a NULL among them are exempt.
    Unique(Vec<ColumnId>),
    /// CHECK (expression), as SQL text over the table's column names.
    Check(String),
    /// FOREIGN KEY (columns) REFERENCES a unique key of a table.
    ForeignKey {
        /// Referencing columns.
        columns: Vec<ColumnId>,
        /// The referenced table.
        references: TableId,
        /// Referenced columns, one for each of `columns`.
        referenced: Vec<ColumnId>,
        /// ON DELETE.
        on_delete: ReferentialAction,
        /// ON UPDATE.
        on_update: ReferentialAction,
    },
    /// CREATE INDEX (columns), which is no constraint to the catalogs.
    Index {
        /// Its columns.
        columns: Vec<ColumnId>,
        /// CREATE UNIQUE INDEX: it is enforced as UNIQUE is.
        unique: bool,
    },
}

/// When a constraint is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deferrable {
    /// NOT DEFERRABLE: at the end of each statement.
    #[default]
    Not,
    /// DEFERRABLE INITIALLY IMMEDIATE: likewise, until SET CONSTRAINTS says otherwise.
    InitiallyImmediate,
    /// DEFERRABLE INITIALLY DEFERRED: at the end of the transaction.
    InitiallyDeferred,
}

/// What a foreign key does when the row it points at goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferentialAction {
    /// NO ACTION
    #[default]
    NoAction,
    /// RESTRICT
    Restrict,
    /// CASCADE
    Cascade,
    /// SET NULL
    SetNull,
    /// SET DEFAULT
    SetDefault,
}

/// A view: a named query, kept as SQL text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewDef {
    /// Its id.
    pub id: TableId,
    /// The schema it is in.
    pub schema: SchemaId,
    /// Its name.
    pub name: String,
    /// The query, as text.
    pub sql: String,
    /// Output columns, as planned when the view was made.
    pub columns: Vec<(String, SqlType)>,
    /// The relations that the text names, as they were then.
    pub reads: Vec<ViewRead>,
}

/// A relation that a view's text names. Renamed, moved or altered, it goes on meaning the same to the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewRead {
    /// The table or view.
    pub id: TableId,
    /// The schema that the text names.
    pub schema: String,
    /// The name in the text.
    pub name: String,
    /// A table's columns when the view was made, with the names that the text knows; of a view none.
    pub columns: Vec<(ColumnId, String)>,
}

/// One change of the catalog, as a commit carries it. Ids are chosen by the compute node, at random for schemas and tables.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogChange {
    /// A new schema. Refused when the id or name is taken.
    CreateSchema(SchemaDef),
    /// Drops an empty schema.
    DropSchema(SchemaId),
    /// A new table. Refused when the id or name is taken or the schema is gone.
    CreateTable(TableDef),
    /// A new definition for an existing table; its `version` is the old one's plus one.
    ReplaceTable(TableDef),
    /// Drops a table and its rows. `version` is the one the statement was planned with.
    DropTable {
        /// The table.
        id: TableId,
        /// Its version at planning.
        version: u64,
    },
    /// A new view, or with `replace` a new text for an existing one.
    CreateView {
        /// The view.
        view: ViewDef,
        /// CREATE OR REPLACE.
        replace: bool,
    },
    /// Drops a view.
    DropView(TableId),
    /// A new sequence. Refused when the id or name is taken or the schema is gone.
    CreateSequence(SequenceDef),
    /// A new definition or position for an existing sequence; its `epoch` is the old one's plus one.
    ReplaceSequence {
        /// The new definition.
        sequence: SequenceDef,
        /// The position that it was made from.
        from: SequencePosition,
    },
    /// Values are handed out: the sequence moves on. Refused unless it is still at `from`.
    MoveSequence {
        /// The sequence.
        id: TableId,
        /// Where it is.
        from: SequencePosition,
        /// Where it will be.
        to: SequencePosition,
    },
    /// Drops a sequence.
    DropSequence(TableId),
    /// COMMENT ON. Refused when what it is about is not there.
    SetComment {
        /// What it is about.
        target: CommentTarget,
        /// The text; `None` takes it away.
        text: Option<Arc<str>>,
    },
}

impl Catalog {
    /// The catalog of an empty database: the schema `public`.
    pub fn initial() -> Catalog {
        let mut catalog = Catalog::default();
        let (id, name) = DEFAULT_SCHEMA;
        catalog.schemas.insert(id, Arc::new(SchemaDef { id, name: name.to_string() }));
        catalog
    }

    /// The schema with this name.
    pub fn schema_by_name(&self, name: &str) -> Option<&Arc<SchemaDef>> {
        self.schemas.values().find(|s| s.name == name)
    }

    /// The table with this name in this schema.
    pub fn table_by_name(&self, schema: SchemaId, name: &str) -> Option<&Arc<TableDef>> {
        self.tables.values().find(|t| t.schema == schema && t.name == name)
    }

    /// The view with this name in this schema.
    pub fn view_by_name(&self, schema: SchemaId, name: &str) -> Option<&Arc<ViewDef>> {
        self.views.values().find(|v| v.schema == schema && v.name == name)
    }

    /// The sequence with this name in this schema.
    pub fn sequence_by_name(&self, schema: SchemaId, name: &str) -> Option<&Arc<SequenceDef>> {
        self.sequences.values().find(|s| s.schema == schema && s.name == name)
    }

    /// The index with this name in this schema, be it a constraint's or not: its table, and its ordinal among the constraints.
    pub fn index_by_name(&self, schema: SchemaId, name: &str) -> Option<(&Arc<TableDef>, u32)> {
        self.tables.values().filter(|t| t.schema == schema).find_map(|table| {
            let (ordinal, ..) = table.indexes().find(|(_, index, _)| *index == name)?;
            Some((table, ordinal))
        })
    }

    /// True when a table, view or sequence of the schema has this name: what a query may read.
    pub fn has_relation(&self, schema: SchemaId, name: &str) -> bool {
        self.table_by_name(schema, name).is_some()
            || self.view_by_name(schema, name).is_some()
            || self.sequence_by_name(schema, name).is_some()
    }

    /// True when a table, view, sequence or index of the schema has this name: nothing new can have it.
    pub fn name_taken(&self, schema: SchemaId, name: &str) -> bool {
        self.has_relation(schema, name) || self.index_by_name(schema, name).is_some()
    }

    /// True when something has this name that is not an index of the table: none of that table's can have it.
    pub fn name_taken_beside(&self, table: TableId, schema: SchemaId, name: &str) -> bool {
        self.has_relation(schema, name) || self.index_by_name(schema, name).is_some_and(|(of, _)| of.id != table)
    }

    /// True when a table, view or sequence has this id.
    pub fn id_taken(&self, id: TableId) -> bool {
        self.tables.contains_key(&id) || self.views.contains_key(&id) || self.sequences.contains_key(&id)
    }

    /// A foreign key whose table or key is gone: the table that has it, and its name. Concurrent definitions can lead there, each valid alone.
    pub fn broken_foreign_key(&self) -> Option<(&TableDef, &str)> {
        self.tables.values().find_map(|table| {
            let broken = table.constraints.iter().find(|constraint| match &constraint.kind {
                ConstraintKind::ForeignKey { references, referenced, .. } => {
                    self.tables.get(references).is_none_or(|parent| parent.key_over(referenced).is_none())
                }
                _ => false,
            });
            broken.map(|constraint| (table.as_ref(), constraint.name.as_str()))
        })
    }

    /// Applies a change that was found valid (by certification, or by the session that made it).
    pub fn apply(&mut self, change: &CatalogChange) {
        match change {
            CatalogChange::CreateSchema(def) => {
                self.schemas.insert(def.id, Arc::new(def.clone()));
            }
            CatalogChange::DropSchema(id) => {
                self.schemas.remove(id);
            }
            CatalogChange::CreateTable(def) | CatalogChange::ReplaceTable(def) => {
                self.tables.insert(def.id, Arc::new(def.clone()));
            }
            CatalogChange::DropTable { id, .. } => {
                self.tables.remove(id);
            }
            CatalogChange::CreateView { view, .. } => {
                self.views.insert(view.id, Arc::new(view.clone()));
            }
            CatalogChange::DropView(id) => {
                self.views.remove(id);
            }
            CatalogChange::CreateSequence(sequence) | CatalogChange::ReplaceSequence { sequence, .. } => {
                self.sequences.insert(sequence.id, Arc::new(sequence.clone()));
            }
            CatalogChange::MoveSequence { id, to, .. } => {
                if let Some(sequence) = self.sequences.get_mut(id) {
                    Arc::make_mut(sequence).position = *to;
                }
            }
            CatalogChange::DropSequence(id) => {
                self.sequences.remove(id);
            }
            CatalogChange::SetComment { target, text: Some(text) } => {
                self.comments.insert(target.clone(), text.clone());
            }
            CatalogChange::SetComment { target, text: None } => {
                self.comments.remove(target);
            }
        }
        if change.takes_away() {
            self.forget_comments();
        }
    }
}

impl CatalogChange {
    /// The table, view or sequence that changes.
    pub fn relation(&self) -> Option<TableId> {
        match self {
            CatalogChange::CreateSchema(_) | CatalogChange::DropSchema(_) => None,
            CatalogChange::CreateTable(table) | CatalogChange::ReplaceTable(table) => Some(table.id),
            CatalogChange::CreateView { view, .. } => Some(view.id),
            CatalogChange::CreateSequence(sequence) | CatalogChange::ReplaceSequence { sequence, .. } => Some(sequence.id),
            CatalogChange::DropTable { id, .. }
            | CatalogChange::DropView(id)
            | CatalogChange::MoveSequence { id, .. }
            | CatalogChange::DropSequence(id) => Some(*id),
            CatalogChange::SetComment { target, .. } => target.relation(),
        }
    }

    /// Whether something may be gone after it that had a comment: an object, a column, a constraint.
    fn takes_away(&self) -> bool {
        match self {
            CatalogChange::DropSchema(_)
            | CatalogChange::ReplaceTable(_)
            | CatalogChange::DropTable { .. }
            | CatalogChange::DropView(_)
            | CatalogChange::DropSequence(_) => true,
            CatalogChange::CreateSchema(_)
            | CatalogChange::CreateTable(_)
            | CatalogChange::CreateView { .. }
            | CatalogChange::CreateSequence(_)
            | CatalogChange::ReplaceSequence { .. }
            | CatalogChange::MoveSequence { .. }
            | CatalogChange::SetComment { .. } => false,
        }
    }
}

impl ConstraintKind {
    /// The columns of what has an index: PRIMARY KEY, UNIQUE, and indexes themselves.
    pub fn index_columns(&self) -> Option<&[ColumnId]> {
        match self {
            ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) | ConstraintKind::Index { columns, .. } => {
                Some(columns.as_slice())
            }
            ConstraintKind::Check(_) | ConstraintKind::ForeignKey { .. } => None,
        }
    }

    /// The columns of what no two rows may have in common: PRIMARY KEY, UNIQUE, and a unique index.
    pub fn unique_columns(&self) -> Option<&[ColumnId]> {
        match self {
            ConstraintKind::Index { unique: false, .. } => None,
            _ => self.index_columns(),
        }
    }
}

impl ConstraintDef {
    /// A constraint, or an index, that is not deferrable.
    pub fn new(name: impl Into<String>, kind: ConstraintKind) -> ConstraintDef {
        ConstraintDef { name: name.into(), kind, deferrable: Deferrable::Not }
    }

    /// False for an index: it has a constraint's place and is none.
    pub fn is_constraint(&self) -> bool {
        !matches!(self.kind, ConstraintKind::Index { .. })
    }
}

impl ColumnDef {
    /// A column of this name and type that takes NULL and has no default.
    pub fn new(id: ColumnId, name: impl Into<String>, ty: SqlType) -> ColumnDef {
        ColumnDef { id, name: name.into(), ty, nullable: true, default: None, missing: None, had_nulls: false, generated: None }
    }
}

impl TableDef {
    /// The column with this id.
    pub fn column(&self, id: ColumnId) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// The SQL position (from 0) of the column with this name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The primary key's columns, when there is one.
    pub fn primary_key(&self) -> Option<&[ColumnId]> {
        self.constraints.iter().find_map(|c| match &c.kind {
            ConstraintKind::PrimaryKey(columns) => Some(columns.as_slice()),
            _ => None,
        })
    }

    /// The unique key over just these columns, in whatever order: its ordinal among the constraints, and its columns. Not a deferrable one.
    pub fn key_over(&self, columns: &[ColumnId]) -> Option<(u32, &[ColumnId])> {
        let same = |key: &[ColumnId]| key.len() == columns.len() && columns.iter().all(|id| key.contains(id));
        self.certain_keys().find(|(_, _, key)| same(key)).map(|(ordinal, _, key)| (ordinal, key))
    }

    /// The unique keys that no two rows have in common whenever one looks: a transaction may break deferrable ones on its way.
    pub fn certain_keys(&self) -> impl Iterator<Item = (u32, &str, &[ColumnId])> {
        self.unique_keys().filter(move |(ordinal, ..)| self.constraints[*ordinal as usize].deferrable == Deferrable::Not)
    }

    /// PRIMARY KEY and UNIQUE constraints, and unique indexes: (ordinal among the constraints, name, columns).
    pub fn unique_keys(&self) -> impl Iterator<Item = (u32, &str, &[ColumnId])> {
        self.constraints.iter().enumerate().filter_map(|(i, c)| Some((i as u32, c.name.as_str(), c.kind.unique_columns()?)))
    }

    /// Everything that has an index: the unique keys, and the other indexes. (ordinal among the constraints, name, columns)
    pub fn indexes(&self) -> impl Iterator<Item = (u32, &str, &[ColumnId])> {
        self.constraints.iter().enumerate().filter_map(|(i, c)| Some((i as u32, c.name.as_str(), c.kind.index_columns()?)))
    }

    /// The Arrow schema of the table's rows: fields in SQL order, each with its SQL type and column id as metadata.
    pub fn arrow_schema(&self) -> SchemaRef {
        self.made_schema(&self.arrow.exact, |column| column.nullable || column.had_nulls)
    }

    /// The same for rows whose NOT NULL constraints are still to be checked.
    pub fn arrow_schema_nullable(&self) -> SchemaRef {
        self.made_schema(&self.arrow.nullable, |_| true)
    }

    fn made_schema(&self, kept: &OnceLock<MadeSchema>, nullable: impl Fn(&ColumnDef) -> bool) -> SchemaRef {
        let make = || (self.columns.iter().map(|c| (c.id, c.ty, nullable(c))).collect(), self.schema_with(&nullable));
        let (columns, schema) = kept.get_or_init(make);
        let same = |((made, field), now): ((&(ColumnId, SqlType, bool), &FieldRef), &ColumnDef)| {
            *made == (now.id, now.ty, nullable(now)) && *field.name() == now.name
        };
        // The columns of a definition in the making may have changed since.
        let unchanged = columns.len() == self.columns.len() && columns.iter().zip(schema.fields()).zip(&self.columns).all(same);
        if unchanged { schema.clone() } else { self.schema_with(&nullable) }
    }

    fn schema_with(&self, nullable: impl Fn(&ColumnDef) -> bool) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns
                .iter()
                .map(|c| {
                    let field = c.ty.field(&c.name, nullable(c));
                    let mut metadata = field.metadata().clone();
                    metadata.insert(FIELD_COLUMN_ID.to_string(), c.id.0.to_string());
                    field.with_metadata(metadata)
                })
                .collect::<Vec<_>>(),
        ))
    }
}
