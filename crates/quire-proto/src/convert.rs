//! Ours to wire and back. To wire cannot fail; back is checked.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use quire_types as t;
use roaring::RoaringTreemap;

use crate::v1 as p;

/// A message that contradicts itself; the field that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

type Result<T> = std::result::Result<T, Malformed>;

fn required<T>(value: Option<T>, field: &'static str) -> Result<T> {
    value.ok_or(Malformed(field))
}

fn all<P, T>(messages: Vec<P>) -> Result<Vec<T>>
where
    T: TryFrom<P, Error = Malformed>,
{
    messages.into_iter().map(T::try_from).collect()
}

fn ids(columns: &[t::ColumnId]) -> Vec<u32> {
    columns.iter().map(|c| c.0).collect()
}

fn column_ids(ids: Vec<u32>) -> Vec<t::ColumnId> {
    ids.into_iter().map(t::ColumnId).collect()
}

// --- types and values -----------------------------------------------------------------------

impl From<t::SqlType> for p::SqlType {
    fn from(ty: t::SqlType) -> Self {
        p::SqlType { name: ty.name() }
    }
}

impl TryFrom<p::SqlType> for t::SqlType {
    type Error = Malformed;

    fn try_from(ty: p::SqlType) -> Result<Self> {
        required(t::SqlType::parse_name(&ty.name), "type.name")
    }
}

impl From<&t::Datum> for p::Datum {
    fn from(datum: &t::Datum) -> Self {
        use p::datum::Value;
        let value = match datum {
            t::Datum::Bool(v) => Value::Boolean(*v),
            t::Datum::Int(v) => Value::Int(*v),
            t::Datum::Float(v) => Value::Float(*v),
            t::Datum::Decimal(v) => Value::Decimal(Bytes::copy_from_slice(&v.to_be_bytes())),
            t::Datum::Text(v) => Value::Text(v.clone()),
            t::Datum::Bytes(v) => Value::Bytes(Bytes::copy_from_slice(v)),
        };
        p::Datum { value: Some(value) }
    }
}

impl TryFrom<p::Datum> for t::Datum {
    type Error = Malformed;

    fn try_from(datum: p::Datum) -> Result<Self> {
        use p::datum::Value;
        Ok(match required(datum.value, "datum.value")? {
            Value::Boolean(v) => t::Datum::Bool(v),
            Value::Int(v) => t::Datum::Int(v),
            Value::Float(v) => t::Datum::Float(v),
            Value::Decimal(v) => {
                let bytes = <[u8; 16]>::try_from(v.as_ref()).map_err(|_| Malformed("datum.decimal"))?;
                t::Datum::Decimal(i128::from_be_bytes(bytes))
            }
            Value::Text(v) => t::Datum::Text(v),
            Value::Bytes(v) => t::Datum::Bytes(v.to_vec()),
        })
    }
}

// --- catalog ----------------------------------------------------------------------------------

impl From<&t::SchemaDef> for p::SchemaDef {
    fn from(schema: &t::SchemaDef) -> Self {
        p::SchemaDef { id: schema.id.0, name: schema.name.clone() }
    }
}

impl From<p::SchemaDef> for t::SchemaDef {
    fn from(schema: p::SchemaDef) -> Self {
        t::SchemaDef { id: t::SchemaId(schema.id), name: schema.name }
    }
}

impl From<&t::ColumnDef> for p::ColumnDef {
    fn from(column: &t::ColumnDef) -> Self {
        p::ColumnDef {
            id: column.id.0,
            name: column.name.clone(),
            r#type: Some(column.ty.into()),
            nullable: column.nullable,
            default_sql: column.default.clone(),
            missing: column.missing.as_ref().map(Into::into),
            had_nulls: column.had_nulls,
            generated: column.generated.as_ref().map(|generated| match generated {
                t::Generated::Identity { sequence, always } => {
                    p::column_def::Generated::Identity(p::Identity { sequence: sequence.0, always: *always })
                }
                t::Generated::Stored(sql) => p::column_def::Generated::Stored(sql.clone()),
            }),
        }
    }
}

impl TryFrom<p::ColumnDef> for t::ColumnDef {
    type Error = Malformed;

    fn try_from(column: p::ColumnDef) -> Result<Self> {
        Ok(t::ColumnDef {
            id: t::ColumnId(column.id),
            name: column.name,
            ty: required(column.r#type, "column.type")?.try_into()?,
            nullable: column.nullable,
            default: column.default_sql,
            missing: column.missing.map(TryInto::try_into).transpose()?,
            had_nulls: column.had_nulls,
            generated: column.generated.map(|generated| match generated {
                p::column_def::Generated::Identity(identity) => {
                    t::Generated::Identity { sequence: t::TableId(identity.sequence), always: identity.always }
                }
                p::column_def::Generated::Stored(sql) => t::Generated::Stored(sql),
            }),
        })
    }
}

fn action_to_wire(action: t::ReferentialAction) -> i32 {
    match action {
        t::ReferentialAction::NoAction => p::ReferentialAction::NoAction,
        t::ReferentialAction::Restrict => p::ReferentialAction::Restrict,
        t::ReferentialAction::Cascade => p::ReferentialAction::Cascade,
        t::ReferentialAction::SetNull => p::ReferentialAction::SetNull,
        t::ReferentialAction::SetDefault => p::ReferentialAction::SetDefault,
    }
    .into()
}

fn action_from_wire(action: i32) -> Result<t::ReferentialAction> {
    Ok(match p::ReferentialAction::try_from(action).map_err(|_| Malformed("foreign_key.action"))? {
        p::ReferentialAction::NoAction => t::ReferentialAction::NoAction,
        p::ReferentialAction::Restrict => t::ReferentialAction::Restrict,
        p::ReferentialAction::Cascade => t::ReferentialAction::Cascade,
        p::ReferentialAction::SetNull => t::ReferentialAction::SetNull,
        p::ReferentialAction::SetDefault => t::ReferentialAction::SetDefault,
    })
}

fn deferrable_to_wire(deferrable: t::Deferrable) -> i32 {
    match deferrable {
        t::Deferrable::Not => p::Deferrable::Not,
        t::Deferrable::InitiallyImmediate => p::Deferrable::InitiallyImmediate,
        t::Deferrable::InitiallyDeferred => p::Deferrable::InitiallyDeferred,
    }
    .into()
}

fn deferrable_from_wire(deferrable: i32) -> Result<t::Deferrable> {
    Ok(match p::Deferrable::try_from(deferrable).map_err(|_| Malformed("constraint.deferrable"))? {
        p::Deferrable::Not => t::Deferrable::Not,
        p::Deferrable::InitiallyImmediate => t::Deferrable::InitiallyImmediate,
        p::Deferrable::InitiallyDeferred => t::Deferrable::InitiallyDeferred,
    })
}

impl From<&t::ConstraintDef> for p::ConstraintDef {
    fn from(constraint: &t::ConstraintDef) -> Self {
        use p::constraint_def::Kind;
        let deferrable = deferrable_to_wire(constraint.deferrable);
        let kind = match &constraint.kind {
            t::ConstraintKind::PrimaryKey(columns) => Kind::PrimaryKey(p::ColumnIds { ids: ids(columns) }),
            t::ConstraintKind::Unique(columns) => Kind::Unique(p::ColumnIds { ids: ids(columns) }),
            t::ConstraintKind::Check(sql) => Kind::Check(sql.clone()),
            t::ConstraintKind::ForeignKey { columns, references, referenced, on_delete, on_update } => Kind::ForeignKey(p::ForeignKey {
                columns: ids(columns),
                references_table: references.0,
                referenced: ids(referenced),
                on_delete: action_to_wire(*on_delete),
                on_update: action_to_wire(*on_update),
                deferrable,
            }),
            t::ConstraintKind::Index { columns, unique } => Kind::Index(p::IndexDef { columns: ids(columns), unique: *unique }),
        };
        // A foreign key had it before keys had.
        let apart = matches!(kind, Kind::ForeignKey(_));
        p::ConstraintDef { name: constraint.name.clone(), kind: Some(kind), deferrable: if apart { 0 } else { deferrable } }
    }
}

impl TryFrom<p::ConstraintDef> for t::ConstraintDef {
    type Error = Malformed;

    fn try_from(constraint: p::ConstraintDef) -> Result<Self> {
        use p::constraint_def::Kind;
        let mut deferrable = deferrable_from_wire(constraint.deferrable)?;
        let kind = match required(constraint.kind, "constraint.kind")? {
            Kind::PrimaryKey(columns) => t::ConstraintKind::PrimaryKey(column_ids(columns.ids)),
            Kind::Unique(columns) => t::ConstraintKind::Unique(column_ids(columns.ids)),
            Kind::Check(sql) => t::ConstraintKind::Check(sql),
            Kind::ForeignKey(key) => {
                deferrable = deferrable_from_wire(key.deferrable)?;
                t::ConstraintKind::ForeignKey {
                    columns: column_ids(key.columns),
                    references: t::TableId(key.references_table),
                    referenced: column_ids(key.referenced),
                    on_delete: action_from_wire(key.on_delete)?,
                    on_update: action_from_wire(key.on_update)?,
                }
            }
            Kind::Index(index) => t::ConstraintKind::Index { columns: column_ids(index.columns), unique: index.unique },
        };
        Ok(t::ConstraintDef { name: constraint.name, kind, deferrable })
    }
}

impl From<&t::TableDef> for p::TableDef {
    fn from(table: &t::TableDef) -> Self {
        p::TableDef {
            id: table.id.0,
            schema: table.schema.0,
            name: table.name.clone(),
            version: table.version,
            columns: table.columns.iter().map(Into::into).collect(),
            next_column_id: table.next_column_id.0,
            constraints: table.constraints.iter().map(Into::into).collect(),
            clustering: ids(&table.clustering),
        }
    }
}

impl TryFrom<p::TableDef> for t::TableDef {
    type Error = Malformed;

    fn try_from(table: p::TableDef) -> Result<Self> {
        let table = t::TableDef {
            id: t::TableId(table.id),
            schema: t::SchemaId(table.schema),
            name: table.name,
            version: table.version,
            columns: all(table.columns)?,
            next_column_id: t::ColumnId(table.next_column_id),
            constraints: all(table.constraints)?,
            clustering: column_ids(table.clustering),
            arrow: t::MadeSchemas::default(),
        };
        let known = |columns: &[t::ColumnId]| columns.iter().all(|id| table.column(*id).is_some());
        let keys = table.indexes().all(|(_, _, columns)| !columns.is_empty() && known(columns));
        if !known(&table.clustering) || !keys {
            return Err(Malformed("table.constraints"));
        }
        Ok(table)
    }
}

impl From<&t::ViewDef> for p::ViewDef {
    fn from(view: &t::ViewDef) -> Self {
        let columns = view.columns.iter().map(|(name, ty)| p::ViewColumn { name: name.clone(), r#type: Some((*ty).into()) });
        let read = |read: &t::ViewRead| p::ViewRead {
            id: read.id.0,
            schema: read.schema.clone(),
            name: read.name.clone(),
            columns: read.columns.iter().map(|(id, name)| p::view_read::Column { id: id.0, name: name.clone() }).collect(),
        };
        p::ViewDef {
            id: view.id.0,
            schema: view.schema.0,
            name: view.name.clone(),
            sql: view.sql.clone(),
            columns: columns.collect(),
            reads: view.reads.iter().map(read).collect(),
        }
    }
}

impl TryFrom<p::ViewDef> for t::ViewDef {
    type Error = Malformed;

    fn try_from(view: p::ViewDef) -> Result<Self> {
        let column = |c: p::ViewColumn| Ok((c.name, required(c.r#type, "view.column.type")?.try_into()?));
        Ok(t::ViewDef {
            id: t::TableId(view.id),
            schema: t::SchemaId(view.schema),
            name: view.name,
            sql: view.sql,
            columns: view.columns.into_iter().map(column).collect::<Result<_>>()?,
            reads: view.reads.into_iter().map(view_read).collect(),
        })
    }
}

fn view_read(read: p::ViewRead) -> t::ViewRead {
    t::ViewRead {
        id: t::TableId(read.id),
        schema: read.schema,
        name: read.name,
        columns: read.columns.into_iter().map(|c| (t::ColumnId(c.id), c.name)).collect(),
    }
}

impl From<&t::CatalogChange> for p::CatalogChange {
    fn from(change: &t::CatalogChange) -> Self {
        use p::catalog_change::Change;
        let change = match change {
            t::CatalogChange::CreateSchema(schema) => Change::CreateSchema(schema.into()),
            t::CatalogChange::DropSchema(id) => Change::DropSchema(id.0),
            t::CatalogChange::CreateTable(table) => Change::CreateTable(table.into()),
            t::CatalogChange::ReplaceTable(table) => Change::ReplaceTable(table.into()),
            t::CatalogChange::DropTable { id, version } => Change::DropTable(p::DropTable { id: id.0, version: *version }),
            t::CatalogChange::CreateView { view, replace } => {
                Change::CreateView(p::CreateView { view: Some(view.into()), replace: *replace })
            }
            t::CatalogChange::DropView(id) => Change::DropView(id.0),
            t::CatalogChange::CreateSequence(sequence) => Change::CreateSequence(sequence.into()),
            t::CatalogChange::ReplaceSequence { sequence, from } => {
                Change::ReplaceSequence(p::ReplaceSequence { sequence: Some(sequence.into()), from: Some((*from).into()) })
            }
            t::CatalogChange::MoveSequence { id, from, to } => {
                Change::MoveSequence(p::MoveSequence { id: id.0, from: Some((*from).into()), to: Some((*to).into()) })
            }
            t::CatalogChange::DropSequence(id) => Change::DropSequence(id.0),
            t::CatalogChange::SetComment { target, text } => {
                Change::SetComment(p::SetComment { target: Some(target.into()), text: text.as_ref().map(|text| text.to_string()) })
            }
        };
        p::CatalogChange { change: Some(change) }
    }
}

impl TryFrom<p::CatalogChange> for t::CatalogChange {
    type Error = Malformed;

    fn try_from(change: p::CatalogChange) -> Result<Self> {
        use p::catalog_change::Change;
        Ok(match required(change.change, "catalog_change.change")? {
            Change::CreateSchema(schema) => t::CatalogChange::CreateSchema(schema.into()),
            Change::DropSchema(id) => t::CatalogChange::DropSchema(t::SchemaId(id)),
            Change::CreateTable(table) => t::CatalogChange::CreateTable(table.try_into()?),
            Change::ReplaceTable(table) => t::CatalogChange::ReplaceTable(table.try_into()?),
            Change::DropTable(drop) => t::CatalogChange::DropTable { id: t::TableId(drop.id), version: drop.version },
            Change::CreateView(create) => {
                t::CatalogChange::CreateView { view: required(create.view, "create_view.view")?.try_into()?, replace: create.replace }
            }
            Change::DropView(id) => t::CatalogChange::DropView(t::TableId(id)),
            Change::CreateSequence(sequence) => t::CatalogChange::CreateSequence(sequence.try_into()?),
            Change::ReplaceSequence(replace) => t::CatalogChange::ReplaceSequence {
                sequence: required(replace.sequence, "replace_sequence.sequence")?.try_into()?,
                from: required(replace.from, "replace_sequence.from")?.into(),
            },
            Change::MoveSequence(moved) => t::CatalogChange::MoveSequence {
                id: t::TableId(moved.id),
                from: required(moved.from, "move_sequence.from")?.into(),
                to: required(moved.to, "move_sequence.to")?.into(),
            },
            Change::DropSequence(id) => t::CatalogChange::DropSequence(t::TableId(id)),
            Change::SetComment(set) => t::CatalogChange::SetComment {
                target: required(set.target, "set_comment.target")?.try_into()?,
                text: set.text.map(Into::into),
            },
        })
    }
}

// --- manifest -----------------------------------------------------------------------------------

impl From<&t::PageMeta> for p::PageMeta {
    fn from(page: &t::PageMeta) -> Self {
        p::PageMeta {
            offset: page.offset,
            length: page.length,
            checksum: page.checksum,
            nulls: page.nulls,
            min: page.min.as_ref().map(Into::into),
            max: page.max.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<p::PageMeta> for t::PageMeta {
    type Error = Malformed;

    fn try_from(page: p::PageMeta) -> Result<Self> {
        Ok(t::PageMeta {
            offset: page.offset,
            length: page.length,
            checksum: page.checksum,
            nulls: page.nulls,
            min: page.min.map(TryInto::try_into).transpose()?,
            max: page.max.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&t::SegmentMeta> for p::SegmentMeta {
    fn from(segment: &t::SegmentMeta) -> Self {
        p::SegmentMeta {
            id: segment.id.0,
            table: segment.table.0,
            term: segment.term.0,
            rows: segment.rows,
            bytes: segment.bytes,
            row_id_base: match segment.row_ids {
                t::RowIds::Base(base) => Some(base.0),
                t::RowIds::Column => None,
            },
            row_id_min: segment.row_id_min.0,
            row_id_max: segment.row_id_max.0,
            footer: segment.footer.clone(),
            columns: segment.columns.iter().map(|c| p::ColumnStats { column: c.column.0, sketch: c.sketch.clone() }).collect(),
            row_groups: segment
                .row_groups
                .iter()
                .map(|g| p::RowGroupMeta { rows: g.rows, pages: g.pages.iter().map(Into::into).collect() })
                .collect(),
        }
    }
}

impl TryFrom<p::SegmentMeta> for t::SegmentMeta {
    type Error = Malformed;

    fn try_from(segment: p::SegmentMeta) -> Result<Self> {
        let columns = segment.columns.len();
        let mut rows = 0u64;
        let mut row_groups = Vec::with_capacity(segment.row_groups.len());
        for group in segment.row_groups {
            if group.pages.len() != columns {
                return Err(Malformed("segment.row_groups.pages"));
            }
            rows += u64::from(group.rows);
            row_groups.push(t::RowGroupMeta { rows: group.rows, pages: all(group.pages)? });
        }
        if rows != segment.rows {
            return Err(Malformed("segment.rows"));
        }
        Ok(t::SegmentMeta {
            id: t::SegmentId(segment.id),
            table: t::TableId(segment.table),
            term: t::Term(segment.term),
            rows: segment.rows,
            bytes: segment.bytes,
            row_ids: segment.row_id_base.map_or(t::RowIds::Column, |base| t::RowIds::Base(t::RowId(base))),
            row_id_min: t::RowId(segment.row_id_min),
            row_id_max: t::RowId(segment.row_id_max),
            footer: segment.footer,
            columns: segment.columns.into_iter().map(|c| t::ColumnStats { column: t::ColumnId(c.column), sketch: c.sketch }).collect(),
            row_groups,
        })
    }
}

impl From<&t::DeltaMeta> for p::DeltaMeta {
    fn from(delta: &t::DeltaMeta) -> Self {
        p::DeltaMeta { first: delta.first.0, rows: delta.rows, bytes: delta.bytes, version: delta.version, lsn: delta.lsn.0 }
    }
}

impl From<p::DeltaMeta> for t::DeltaMeta {
    fn from(delta: p::DeltaMeta) -> Self {
        t::DeltaMeta { first: t::RowId(delta.first), rows: delta.rows, bytes: delta.bytes, version: delta.version, lsn: t::Lsn(delta.lsn) }
    }
}

// --- row sets -----------------------------------------------------------------------------------

/// A set of row ids as one roaring bitmap; nothing for the empty set.
pub fn encode_rows(rows: &t::RowSet) -> Bytes {
    if rows.is_empty() {
        return Bytes::new();
    }
    let set = rows.to_treemap();
    let mut bytes = Vec::with_capacity(set.serialized_size());
    set.serialize_into(&mut bytes).expect("writing to a vector does not fail");
    bytes.into()
}

/// The inverse of [`encode_rows`]; `field` is named when it is none.
pub fn decode_rows(bytes: &[u8], field: &'static str) -> Result<t::RowSet> {
    if bytes.is_empty() {
        return Ok(t::RowSet::default());
    }
    let set = RoaringTreemap::deserialize_from(bytes).map_err(|_| Malformed(field))?;
    Ok(set.iter().map(t::RowId).collect())
}

// --- the log ----------------------------------------------------------------------------------

impl From<&t::TableWrite> for p::TableWrite {
    fn from(write: &t::TableWrite) -> Self {
        p::TableWrite {
            table: write.table.0,
            version: write.version,
            truncate: write.truncate,
            rows: write.rows.clone(),
            row_count: write.row_count,
            segments: write.segments.iter().map(Into::into).collect(),
            deletes: write.deletes.iter().map(|r| r.0).collect(),
            segment_deletes: write.segment_deletes.clone(),
            keys: key_asserts(&write.keys),
            all_keys: write.all_keys,
            key_reads: write.key_reads.iter().map(|k| p::KeyAssert { constraint: k.constraint, hash: k.hash }).collect(),
            all_key_reads: write.all_key_reads,
            unwritten: write.unwritten,
        }
    }
}

impl TryFrom<p::TableWrite> for t::TableWrite {
    type Error = Malformed;

    fn try_from(write: p::TableWrite) -> Result<Self> {
        Ok(t::TableWrite {
            table: t::TableId(write.table),
            version: write.version,
            truncate: write.truncate,
            rows: write.rows,
            row_count: write.row_count,
            segments: all(write.segments)?,
            deletes: write.deletes.into_iter().map(t::RowId).collect(),
            segment_deletes: write.segment_deletes,
            keys: write.keys.into_iter().map(|k| t::KeyAssert { constraint: k.constraint, hash: k.hash }).collect(),
            all_keys: write.all_keys,
            key_reads: write.key_reads.into_iter().map(|k| t::KeyAssert { constraint: k.constraint, hash: k.hash }).collect(),
            all_key_reads: write.all_key_reads,
            unwritten: write.unwritten,
        })
    }
}

fn key_asserts(keys: &[t::KeyAssert]) -> Vec<p::KeyAssert> {
    keys.iter().map(|k| p::KeyAssert { constraint: k.constraint, hash: k.hash }).collect()
}

impl From<&t::TableRead> for p::TableRead {
    fn from(read: &t::TableRead) -> Self {
        let ids = |rows: &[t::RowId]| rows.iter().map(|r| r.0).collect();
        p::TableRead {
            table: read.table.0,
            version: read.version,
            whole: read.whole,
            rows: ids(&read.rows),
            absent: key_asserts(&read.absent),
            locked: ids(&read.locked),
            shared: ids(&read.shared),
        }
    }
}

impl From<p::TableRead> for t::TableRead {
    fn from(read: p::TableRead) -> Self {
        let rows = |ids: Vec<u64>| ids.into_iter().map(t::RowId).collect();
        t::TableRead {
            table: t::TableId(read.table),
            version: read.version,
            whole: read.whole,
            rows: rows(read.rows),
            absent: read.absent.into_iter().map(|k| t::KeyAssert { constraint: k.constraint, hash: k.hash }).collect(),
            locked: rows(read.locked),
            shared: rows(read.shared),
        }
    }
}

impl From<&t::Commit> for p::Commit {
    fn from(commit: &t::Commit) -> Self {
        let isolation = match commit.isolation {
            t::Isolation::ReadCommitted => p::Isolation::ReadCommitted,
            t::Isolation::RepeatableRead => p::Isolation::RepeatableRead,
            t::Isolation::Serializable => p::Isolation::Serializable,
        };
        p::Commit {
            txn_id: Bytes::copy_from_slice(&commit.txn_id.0.to_be_bytes()),
            snapshot: commit.snapshot.0,
            isolation: isolation.into(),
            catalog: commit.catalog.iter().map(Into::into).collect(),
            writes: commit.writes.iter().map(Into::into).collect(),
            reads: commit.reads.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<p::Commit> for t::Commit {
    type Error = Malformed;

    fn try_from(commit: p::Commit) -> Result<Self> {
        let txn_id = <[u8; 16]>::try_from(commit.txn_id.as_ref()).map_err(|_| Malformed("commit.txn_id"))?;
        let isolation = match p::Isolation::try_from(commit.isolation).map_err(|_| Malformed("commit.isolation"))? {
            p::Isolation::ReadCommitted => t::Isolation::ReadCommitted,
            p::Isolation::RepeatableRead => t::Isolation::RepeatableRead,
            p::Isolation::Serializable => t::Isolation::Serializable,
        };
        Ok(t::Commit {
            txn_id: t::TxnId(u128::from_be_bytes(txn_id)),
            snapshot: t::Lsn(commit.snapshot),
            isolation,
            catalog: all(commit.catalog)?,
            writes: all(commit.writes)?,
            reads: commit.reads.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&t::LogEntry> for p::LogEntry {
    fn from(entry: &t::LogEntry) -> Self {
        use p::log_entry::Entry;
        let entry = match entry {
            t::LogEntry::Commit(commit) => Entry::Commit(commit.into()),
            t::LogEntry::Seal(seal) => Entry::Seal(p::Seal {
                table: seal.table.0,
                version: seal.version,
                first: seal.first.0,
                end: seal.end.0,
                segments: seal.segments.iter().map(Into::into).collect(),
                dropped: encode_rows(&seal.dropped),
            }),
            t::LogEntry::Compact(compact) => Entry::Compact(p::Compact {
                table: compact.table.0,
                inputs: compact.inputs.iter().map(|s| s.0).collect(),
                outputs: compact.outputs.iter().map(Into::into).collect(),
                dropped: encode_rows(&compact.dropped),
            }),
        };
        p::LogEntry { entry: Some(entry) }
    }
}

impl TryFrom<p::LogEntry> for t::LogEntry {
    type Error = Malformed;

    fn try_from(entry: p::LogEntry) -> Result<Self> {
        use p::log_entry::Entry;
        Ok(match required(entry.entry, "log_entry.entry")? {
            Entry::Commit(commit) => t::LogEntry::Commit(commit.try_into()?),
            Entry::Seal(seal) => t::LogEntry::Seal(t::Seal {
                table: t::TableId(seal.table),
                version: seal.version,
                first: t::RowId(seal.first),
                end: t::RowId(seal.end),
                segments: all(seal.segments)?,
                dropped: decode_rows(&seal.dropped, "seal.dropped")?,
            }),
            Entry::Compact(compact) => t::LogEntry::Compact(t::Compact {
                table: t::TableId(compact.table),
                inputs: compact.inputs.into_iter().map(t::SegmentId).collect(),
                outputs: all(compact.outputs)?,
                dropped: decode_rows(&compact.dropped, "compact.dropped")?,
            }),
        })
    }
}

/// A log entry as it lies in the log.
pub fn encode_entry(entry: &t::LogEntry) -> Bytes {
    p::LogEntry::from(entry).encode_to_vec().into()
}

/// The inverse of [`encode_entry`].
pub fn decode_entry(bytes: Bytes) -> Result<t::LogEntry> {
    p::LogEntry::decode(bytes).map_err(|_| Malformed("log entry"))?.try_into()
}

impl From<&t::Outcome> for p::Outcome {
    fn from(outcome: &t::Outcome) -> Self {
        use p::outcome::{Conflict, Outcome};
        let outcome = match outcome {
            t::Outcome::Committed(lsn) => Outcome::Committed(lsn.0),
            t::Outcome::RowConflict { table, row } => Outcome::RowConflict(Conflict { table: table.0, row: row.0, constraint: None }),
            t::Outcome::KeyConflict { table, constraint } => {
                Outcome::KeyConflict(Conflict { table: table.0, row: 0, constraint: *constraint })
            }
            t::Outcome::ReadConflict { table } => Outcome::ReadConflict(table.0),
            t::Outcome::SchemaConflict { table } => Outcome::SchemaConflict(table.0),
            t::Outcome::CatalogConflict(why) => Outcome::CatalogConflict(why.clone()),
            t::Outcome::SnapshotTooOld => Outcome::SnapshotTooOld(true),
            t::Outcome::FutureSnapshot => Outcome::FutureSnapshot(true),
            t::Outcome::Refused(why) => Outcome::Refused(why.clone()),
            t::Outcome::Stale => Outcome::Stale(true),
        };
        p::Outcome { outcome: Some(outcome) }
    }
}

impl TryFrom<p::Outcome> for t::Outcome {
    type Error = Malformed;

    fn try_from(outcome: p::Outcome) -> Result<Self> {
        use p::outcome::Outcome;
        Ok(match required(outcome.outcome, "outcome.outcome")? {
            Outcome::Committed(lsn) => t::Outcome::Committed(t::Lsn(lsn)),
            Outcome::RowConflict(c) => t::Outcome::RowConflict { table: t::TableId(c.table), row: t::RowId(c.row) },
            Outcome::KeyConflict(c) => t::Outcome::KeyConflict { table: t::TableId(c.table), constraint: c.constraint },
            Outcome::ReadConflict(table) => t::Outcome::ReadConflict { table: t::TableId(table) },
            Outcome::SchemaConflict(table) => t::Outcome::SchemaConflict { table: t::TableId(table) },
            Outcome::CatalogConflict(why) => t::Outcome::CatalogConflict(why),
            Outcome::SnapshotTooOld(_) => t::Outcome::SnapshotTooOld,
            Outcome::FutureSnapshot(_) => t::Outcome::FutureSnapshot,
            Outcome::Refused(why) => t::Outcome::Refused(why),
            Outcome::Stale(_) => t::Outcome::Stale,
        })
    }
}

impl From<&t::Change> for p::Change {
    fn from(change: &t::Change) -> Self {
        use p::change::{Change, DeltaAdded, DeltaRange, RowLimit, RowsDeleted, SegmentRemoved};
        let change = match change {
            t::Change::Catalog(change) => Change::Catalog(change.into()),
            t::Change::Truncated(table) => Change::Truncated(table.0),
            t::Change::DeltaAdded { table, delta } => Change::DeltaAdded(DeltaAdded { table: table.0, delta: Some(delta.into()) }),
            t::Change::DeltaSealed { table, first, end } => Change::DeltaSealed(DeltaRange { table: table.0, first: first.0, end: end.0 }),
            t::Change::SegmentAdded(segment) => Change::SegmentAdded(segment.as_ref().into()),
            t::Change::SegmentRemoved { table, segment } => Change::SegmentRemoved(SegmentRemoved { table: table.0, segment: segment.0 }),
            t::Change::RowsDeleted { table, rows } => {
                let set: RoaringTreemap = rows.iter().map(|r| r.0).collect();
                let mut bytes = Vec::with_capacity(set.serialized_size());
                set.serialize_into(&mut bytes).expect("writing to a vector does not fail");
                Change::RowsDeleted(RowsDeleted { table: table.0, rows: bytes.into() })
            }
            t::Change::RowsPurged { table, rows } => Change::RowsPurged(RowsDeleted { table: table.0, rows: encode_rows(rows) }),
            t::Change::RowLimit { table, next } => Change::RowLimit(RowLimit { table: table.0, next: next.0 }),
        };
        p::Change { change: Some(change) }
    }
}

impl TryFrom<p::Change> for t::Change {
    type Error = Malformed;

    fn try_from(change: p::Change) -> Result<Self> {
        use p::change::Change;
        Ok(match required(change.change, "change.change")? {
            Change::Catalog(change) => t::Change::Catalog(change.try_into()?),
            Change::Truncated(table) => t::Change::Truncated(t::TableId(table)),
            Change::DeltaAdded(added) => {
                t::Change::DeltaAdded { table: t::TableId(added.table), delta: required(added.delta, "delta_added.delta")?.into() }
            }
            Change::DeltaSealed(range) => {
                t::Change::DeltaSealed { table: t::TableId(range.table), first: t::RowId(range.first), end: t::RowId(range.end) }
            }
            Change::SegmentAdded(segment) => t::Change::SegmentAdded(Arc::new(segment.try_into()?)),
            Change::SegmentRemoved(removed) => {
                t::Change::SegmentRemoved { table: t::TableId(removed.table), segment: t::SegmentId(removed.segment) }
            }
            Change::RowsDeleted(deleted) => {
                let set = RoaringTreemap::deserialize_from(deleted.rows.as_ref()).map_err(|_| Malformed("rows_deleted.rows"))?;
                t::Change::RowsDeleted { table: t::TableId(deleted.table), rows: set.iter().map(t::RowId).collect() }
            }
            Change::RowsPurged(purged) => {
                t::Change::RowsPurged { table: t::TableId(purged.table), rows: decode_rows(&purged.rows, "rows_purged.rows")? }
            }
            Change::RowLimit(limit) => t::Change::RowLimit { table: t::TableId(limit.table), next: t::RowId(limit.next) },
        })
    }
}

// --- pages ------------------------------------------------------------------------------------

impl From<&t::PageRead> for p::PageRead {
    fn from(read: &t::PageRead) -> Self {
        p::PageRead {
            table: read.table.0,
            segment: read.page.segment.0,
            term: read.term.0,
            row_group: read.page.row_group,
            column: read.page.column.0,
            offset: read.offset,
            length: read.length,
            checksum: read.checksum,
        }
    }
}

impl From<p::PageRead> for t::PageRead {
    fn from(read: p::PageRead) -> Self {
        t::PageRead {
            page: t::PageId { segment: t::SegmentId(read.segment), row_group: read.row_group, column: t::ColumnId(read.column) },
            table: t::TableId(read.table),
            term: t::Term(read.term),
            offset: read.offset,
            length: read.length,
            checksum: read.checksum,
        }
    }
}

mod comment;
mod sequence;

#[cfg(test)]
mod tests;
