package jsondoc

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/errs"
)

// doc has every kind of field that a document here has.
type doc struct {
	Layers []struct {
		Digest string            `json:"digest"`
		Notes  map[string]string `json:"annotations"`
	} `json:"layers"`
	Config *struct{ Size int } `json:"config"`
	Raw    json.RawMessage     `json:"raw"`
	Plain  string
}

func TestUnmarshal(t *testing.T) {
	for _, c := range []struct{ in, unmarshal, check string }{ // what the errors say; "" for none
		{`{"layers":[{"digest":"a"},{"digest":"b"}],"config":{"Size":1}}`, "", ""},
		{`{"layers":[],"layers":[]}`, `"layers" is there twice`, `"layers" is there twice`},
		{`{"layers":[],"Layers":[]}`, `"Layers" must be written "layers"`, ""},
		{`{"Layers":[]}`, `"Layers" must be written "layers"`, ""},
		{`{"layerſ":[]}`, `must be written "layers"`, ""}, // encoding/json folds this letter to s
		{`{"layers":[{"digest":"a","digest":"b"}]}`, "twice", "twice"},
		{`{"layers":[{"DIGEST":"a"}]}`, `"DIGEST" must be written "digest"`, ""},
		{`{"layers":[{"annotations":{"A":"1","a":"2"}}]}`, "", ""},
		{`{"layers":[{"annotations":{"a":"1","\u0061":"2"}}]}`, "twice", "twice"},
		{`{"config":{"size":1}}`, `"size" must be written "Size"`, ""},
		{`{"raw":{"x":1,"X":2},"other":{"a":{"b":[]},"c":[{}]},"plain":"x"}`, `"plain" must be`, ""},
		{`{"raw":{"x":1,"x":2}}`, "twice", "twice"},
		{`{"raw":{"x":{"x":{"x":1}},"y":["x","x"]},"z":"x"}`, "", ""},
		{"\ufeff{}", "invalid character", "invalid character"},
		{`{} {}`, "invalid character", "invalid character"},
		{``, "unexpected end", "unexpected end"},
		{`{"other":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, "exceeded max depth", "exceeded max depth"},
		{`{"Plain":"` + "\xff" + `"}`, "", ""},
	} {
		var v doc
		for name, got := range map[string]error{c.unmarshal: Unmarshal([]byte(c.in), &v), c.check + " ": Check([]byte(c.in))} {
			want := strings.TrimSuffix(name, " ")
			if want == "" && got != nil || want != "" && (!errs.Is(got, errs.Invalid) || !strings.Contains(got.Error(), want)) {
				t.Errorf("%.80s: %v, want %q", c.in, got, want)
			}
		}
	}
}

// FuzzUnmarshal: what is accepted reads the same when its keys are turned around and when it is written anew.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"layers":[{"digest":"a","annotations":{"A":"1","a":"2"}}],"config":{"Size":1},"raw":{"x":[1,{}]},"Plain":"x"}`))
	f.Add([]byte(`{"Layers":[]}`))
	f.Add([]byte(`[{"layers":null}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, again doc
		if Unmarshal(b, &v) != nil {
			return
		}
		if err := Check(b); err != nil {
			t.Errorf("Unmarshal takes what Check refuses: %v", err)
		}
		var exact map[string]json.RawMessage
		if json.Unmarshal(b, &exact) == nil && exact["layers"] == nil && v.Layers != nil {
			t.Errorf("layers out of nothing: %s", b)
		}
		v.Raw = nil // its white space may change
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(out, &again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		again.Raw = nil
		if len(v.Layers) != len(again.Layers) || v.Plain != again.Plain || !reflect.DeepEqual(v.Config, again.Config) {
			t.Errorf("%s is %+v, then %+v", b, v, again)
		}
	})
}
