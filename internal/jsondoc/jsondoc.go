// Package jsondoc reads JSON documents that come from outside and are named by a digest. encoding/json takes the last of two equal keys
// and doesn't mind a key's case, other programs' parsers do otherwise: a document that could be read in two ways shows two programs
// two images under one digest (the case of CVE-2021-41190), and is refused here.
package jsondoc

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// Unmarshal is json.Unmarshal, but for keys: Invalid if an object has one twice, or has one that is a field of v in another case.
func Unmarshal(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return errs.As(errs.Invalid, err)
	}
	return walk(b, reflect.TypeOf(v))
}

// Check refuses a document that is no JSON or has a key twice in one object. Keys in another case it lets pass, as Docker does in configs.
func Check(b []byte) error {
	if !json.Valid(b) { // it bounds the depth too
		var v any
		return errs.As(errs.Invalid, json.Unmarshal(b, &v))
	}
	return walk(b, nil)
}

// A level is an object or an array that is being read.
type level struct {
	seen  map[string]bool // nil in an array
	key   string
	isKey bool         // the next token is a key
	typ   reflect.Type // what it is decoded into; nil if that doesn't matter
}

// walk checks the keys of valid JSON.
func walk(b []byte, typ reflect.Type) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var stack []*level
	for {
		t, err := d.Token()
		if err != nil {
			return nil // the end: b is valid
		}
		var top *level
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if key, ok := t.(string); ok && top != nil && top.isKey {
			if err := top.enter(key); err != nil {
				return err
			}
			continue
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			l := &level{typ: typ}
			if top != nil {
				l.typ = top.inner()
			}
			if t == json.Delim('{') {
				l.seen, l.isKey = map[string]bool{}, true
			}
			stack = append(stack, l)
			continue
		case json.Delim('}'), json.Delim(']'):
			if stack = stack[:len(stack)-1]; len(stack) > 0 {
				top = stack[len(stack)-1]
			}
		}
		if top != nil && top.seen != nil {
			top.isKey = true
		}
	}
}

// enter notes an object's next key.
func (l *level) enter(key string) error {
	if l.seen[key] {
		return errs.New(errs.Invalid, "the key %q is there twice", key)
	}
	l.seen[key], l.key, l.isKey = true, key, false
	if t := plain(l.typ); t != nil && t.Kind() == reflect.Struct {
		if _, want := field(t, key); want != "" && want != key {
			return errs.New(errs.Invalid, "the key %q must be written %q", key, want)
		}
	}
	return nil
}

// inner is the type of the value that comes next; nil if it doesn't matter.
func (l *level) inner() reflect.Type {
	t := plain(l.typ)
	if t == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		inner, _ := field(t, l.key)
		return inner
	case reflect.Map, reflect.Slice, reflect.Array:
		return t.Elem()
	}
	return nil
}

// plain follows pointers; nil for a type that decodes itself.
func plain(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	return t
}

// field finds the field that encoding/json would put a key into, and its exact name; "" if there is none.
func field(t reflect.Type, key string) (typ reflect.Type, name string) {
	for i := range t.NumField() {
		f := t.Field(i)
		n, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if n == "" {
			n = f.Name
		}
		if n == key {
			return f.Type, n
		}
		if name == "" && strings.EqualFold(n, key) {
			typ, name = f.Type, n
		}
	}
	return typ, name
}
