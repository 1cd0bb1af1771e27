package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The file that is named counts, and must be there; the usual one counts if nobody names another; and "" means none.
func TestConfigured(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	usual, other, bad := put("brig.conf", `group = "usual"`), put("other.conf", `group = "other"`), put("bad.conf", "grup = 1")
	missing := filepath.Join(dir, "missing.conf")
	for _, c := range []struct {
		name, file string
		named      bool
		usual      string
		want       string // the group; "": an error
	}{
		{"nothing at all", "", false, missing, "brig"},
		{"the usual one", "", false, usual, "usual"},
		{"named", other, true, usual, "other"},
		{"none", "", true, usual, "brig"},
		{"named, and missing", missing, true, usual, ""},
		{"the usual one is bad", "", false, bad, ""},
	} {
		got, err := configured(c.file, c.named, c.usual)
		if (err == nil) != (c.want != "") || err == nil && got.Group != c.want {
			t.Errorf("%s: group %q, %v; want %q", c.name, got.Group, err, c.want)
		}
	}
}
