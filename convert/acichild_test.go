package convert

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestChildManifest(t *testing.T) {
	id := "sha512-" + strings.Repeat("ab", 64)
	parent := brig.ACIDependency{Name: "example.com/base", ID: id, Labels: map[string]string{"version": "1", "os": "linux", "arch": "amd64"}}
	made := time.Date(2026, 11, 30, 1, 2, 3, 4, time.FixedZone("", 3600))
	head := `"acKind":"ImageManifest","acVersion":"0.8.11","dependencies":[{"imageName":"example.com/base","imageID":"` + id +
		`","labels":[{"name":"arch","value":"amd64"},{"name":"os","value":"linux"},{"name":"version","value":"1"}]}],"name":"example.com/x"`
	times := `"annotations":[{"name":"timestamp","value":"2026-11-30T00:02:03Z"},{"name":"created","value":"2026-11-30T00:02:03Z"}]`
	for _, c := range []struct {
		doc       string
		whitelist []string
		want      string // without what is in head; or words of the error
	}{
		{`{"name":"example.com/x"}`, nil, times + `,"labels":[{"name":"os","value":"linux"},{"name":"arch","value":"amd64"}]`},
		{`{"name":"example.com/x","acKind":"ImageManifest","labels":[{"name":"version","value":"2"},{"name":"os","value":"freebsd"},{"name":"arch","value":""}]}`, []string{"/a", "/b"},
			times + `,"labels":[{"name":"version","value":"2"},{"name":"os","value":"freebsd"}],"pathWhitelist":["/a","/b"]`},
		{`{"name":"example.com/x","annotations":[{"name":"timestamp","value":"then"},{"name":"created","value":"2020-01-01T00:00:00Z"}],"app":{"exec":["/x"],"user":"0","group":"0"},"dependencies":[],"pathWhitelist":[]}`, nil,
			`"annotations":[{"name":"timestamp","value":"then"},{"name":"created","value":"2020-01-01T00:00:00Z"}],"app":{"exec":["/x"],"user":"0","group":"0"},"labels":[{"name":"os","value":"linux"},{"name":"arch","value":"amd64"}]`},
		{`{}`, nil, "name"},
		{`[]`, nil, "array"},
		{`{"name":"example.com/x"`, nil, "unexpected end"},
		{`{"name":"example.com/x","name":"example.com/y"}`, nil, "name"},
		{`{"name":"example.com/x","labels":{}}`, nil, "labels"},
		{`{"name":"Example"}`, nil, "AC"},
		{`{"name":"example.com/x","acKind":"PodManifest"}`, nil, "ImageManifest"},
		{`{"name":"example.com/x","acVersion":"1.0.0"}`, nil, "acVersion 1.0.0"},
		{`{"name":"example.com/x","dependencies":[{"imageName":"example.com/z"}]}`, nil, "it has dependencies"},
		{`{"name":"example.com/x","pathWhitelist":["/a"]}`, nil, "it has pathWhitelist"},
		{`{"name":"example.com/x","app":{"exec":["/x"],"user":"0"}}`, nil, "group"},
		{`{"name":"example.com/x"}`, []string{"/\xff"}, "no UTF-8"},
	} {
		got, err := New().ChildManifest([]byte(c.doc), parent, made, c.whitelist)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v (%v), want %q", c.doc, err, errs.KindOf(err), c.want)
			}
			continue
		}
		var have, want map[string]any
		if err := json.Unmarshal([]byte("{"+head+","+c.want+"}"), &want); err != nil {
			t.Errorf("%s: no error, want %q", c.doc, c.want)
			continue
		}
		if err := json.Unmarshal(got, &have); err != nil || !reflect.DeepEqual(have, want) {
			t.Errorf("%s:\n%s\nwant {%s,%s}", c.doc, got, head, c.want)
		}
		again, err := New().ChildManifest([]byte(c.doc), parent, made, c.whitelist)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: other bytes the second time: %s, %v", c.doc, again, err)
		}
	}
}
