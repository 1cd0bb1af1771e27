package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// brig.conf(5) has each key with its default, and no other one.
func TestManPage(t *testing.T) {
	page, err := os.ReadFile("../../man/brig.conf.5")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\.It Va (\S+) No = (.*)$`).FindAllStringSubmatch(string(page), -1) {
		said[m[1]] = m[2]
	}
	d := reflect.ValueOf(Default())
	for i := range d.NumField() {
		key := d.Type().Field(i).Tag.Get("toml")
		if got, want := said[key], mdoc(d.Field(i).Interface()); got != want {
			t.Errorf("brig.conf.5 says of %s %q, want .It Va %s No = %s", key, got, key, want)
		}
		delete(said, key)
	}
	for key := range said {
		t.Errorf("brig.conf.5 has the key %s, which brigd doesn't know", key)
	}
	for _, os := range []string{"freebsd", "linux"} {
		if !strings.Contains(string(page), ".It Pa "+DefaultPath(os)+"\n") {
			t.Errorf("brig.conf.5 doesn't name %s", DefaultPath(os))
		}
	}
}

// mdoc is a default as the page writes it.
func mdoc(v any) string {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace("Qq " + v)
	case []string:
		out := "Bq"
		for _, s := range v {
			out += " " + mdoc(s)
		}
		return out
	case map[string]string:
		return "Brq"
	}
	return fmt.Sprint(v)
}
