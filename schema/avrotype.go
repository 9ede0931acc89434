package schema

// Types that others are nested in are, in Avro,
//
//	list, set, vector   an array of the elements
//	map                 with keys of type text or ascii a map; otherwise an array of records with the fields key and value,
//	                    which the attribute connect.internal.type marks as the entries of a map for Kafka Connect
//	tuple               a record with the fields f0, f1 and so on
//	user type           a record with its fields
//
// What is in them is nullable: for fields that are null, for empty values that Avro has no form for, and so that a user
// type can get another field under a registry's BACKWARD rule.
//
// A record's full name says where it stands, and so is the only one of its name in the schema: the namespace is that of
// the table, the column, and the fields of the records around it. Records in the key of a map are behind "key", those in
// its values behind "value" where it is an array. The name is that of the user type, or "tuple", or "entry". The same
// user type in two columns is two records.

// textKeys reports whether a map type is a map in Avro too.
func (t *Type) textKeys() bool {
	return t.Elems[0].Kind == KindText || t.Elems[0].Kind == KindASCII
}

// value writes a type. Records in it are in the namespace.
func (w *avroWriter) value(t *Type, namespace string) {
	switch t.Kind {
	case KindList, KindSet, KindVector:
		w.WriteString(`{"type":"array","items":["null",`)
		w.value(t.Elems[0], namespace)
		w.WriteByte(']')
	case KindMap:
		if t.textKeys() {
			w.WriteString(`{"type":"map","values":["null",`)
			w.value(t.Elems[1], namespace)
			w.WriteByte(']')
			break
		}
		w.WriteString(`{"type":"array","items":`)
		w.nested("entry", namespace)
		w.named("key", t.Elems[0], true, namespace)
		w.named("value", t.Elems[1], true, namespace)
		w.WriteString(`],"connect.internal.type":"MapEntry"}`)
		w.separate = true
	case KindTuple:
		w.nested("tuple", namespace)
		for i, e := range t.Elems {
			w.named(tupleField(i), e, true, namespace)
		}
		w.WriteByte(']')
		w.separate = true
	case KindUDT:
		w.nested(AvroName(t.Name), namespace)
		for i, e := range t.Elems {
			w.named(t.Fields[i], e, true, namespace)
		}
		w.WriteByte(']')
		w.separate = true
	default:
		avro, logical := avroType(t.Kind)
		w.WriteString(`{"type":"` + avro + `"`)
		if logical != "" {
			w.WriteString(`,"logicalType":"` + logical + `"`)
		}
	}
	w.WriteString(`,"cql":` + jsonText(t.CQL()) + `}`)
}

// nested begins a record, up to its first field. Its name has the namespace in it: libraries agree more on what that means
// than on a namespace within another.
func (w *avroWriter) nested(name, namespace string) {
	w.WriteString(`{"type":"record","name":"` + namespace + "." + name + `","fields":[`)
	w.separate = false
}
