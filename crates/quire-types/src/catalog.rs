use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::{ColumnId, SchemaId, SqlType, TableId, sql_type::FIELD_COLUMN_ID};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDef {
    /// Its id.
    pub id: TableId,
    /// The schema it is in.
    pub schema: SchemaId,
    /// Its name, unique among tables and views of the schema.
    pub name: String,
    /// Counts definition changes and truncations; a commit names the version it was planned with.
    pub version: u64,
    /// Columns in SQL order.
    pub columns: Vec<ColumnDef>,
    /// The id that the next added column gets.
    pub next_column_id: ColumnId,
    /// Constraints in the order they were declared (NOT NULL is a property of the column).
    pub constraints: Vec<ConstraintDef>,
    /// The clustering key: segments are sorted by it. The primary key's columns unless said otherwise; may be empty.
    pub clustering: Vec<ColumnId>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// A table constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintDef {
    /// Its name, unique in the table; also the index's name for PRIMARY KEY and UNIQUE.
    pub name: String,
    /// What it says.
    pub kind: ConstraintKind,
}

/// What a constraint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// PRIMARY KEY (columns).
    PrimaryKey(Vec<ColumnId>),
    /// UNIQUE (columns): rows with a NULL among them are exempt.
    Unique(Vec<ColumnId>),
    /// CHECK (expression), as SQL text over the table's column names.
    Check(String),
    /// FOREIGN KEY: recorded and shown, not enforced yet.
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
}

/// One change of the catalog, as a commit carries it. Ids are chosen by the compute node, at random for schemas and tables.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// True when a table or view of the schema has this name.
    pub fn name_taken(&self, schema: SchemaId, name: &str) -> bool {
        self.table_by_name(schema, name).is_some() || self.view_by_name(schema, name).is_some()
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
        }
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

    /// PRIMARY KEY and UNIQUE constraints: (ordinal among the constraints, name, columns).
    pub fn unique_keys(&self) -> impl Iterator<Item = (u32, &str, &[ColumnId])> {
        self.constraints.iter().enumerate().filter_map(|(i, c)| match &c.kind {
            ConstraintKind::PrimaryKey(columns) | ConstraintKind::Unique(columns) => Some((i as u32, c.name.as_str(), columns.as_slice())),
            _ => None,
        })
    }

    /// The Arrow schema of the table's rows: fields in SQL order, each with its SQL type and column id as metadata.
    pub fn arrow_schema(&self) -> SchemaRef {
        self.schema_with(|column| column.nullable)
    }

    /// The same for rows whose NOT NULL constraints are still to be checked.
    pub fn arrow_schema_nullable(&self) -> SchemaRef {
        self.schema_with(|_| true)
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
