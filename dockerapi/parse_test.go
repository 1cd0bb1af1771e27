package dockerapi

import (
	"reflect"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestParseFilters(t *testing.T) {
	for _, c := range []struct {
		in   string
		want filters
	}{
		{"", filters{}},
		{"{}", filters{}},
		{"null", filters{}},
		{`{"label":{"a=b":true,"c":true,"off":false}}`, filters{"label": {"a=b", "c"}}},
		{`{"label":["c","a=b","c"]}`, filters{"label": {"a=b", "c"}}},
		{`{"label":["x"],"name":{"n":true}}`, filters{"label": {"x"}, "name": {"n"}}},
	} {
		if got, err := parseFilters(c.in); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{"x", `["a"]`, `{"label":"x"}`, `{"label":{"a":1}}`, `{"label":[1]}`} {
		if _, err := parseFilters(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want Invalid", bad, err)
		}
	}
}

func TestMatching(t *testing.T) {
	f := filters{"label": {"a=b", "c"}, "label!": {"z"}, "name": {"web"}, "re": {"^w.b$"}, "odd": {"["}, "yes": {"true"}, "no": {"0"}, "both": {"1", "0"}}
	for name, ok := range map[string]bool{
		"labels":           f.labels("label", map[string]string{"a": "b", "c": "", "d": "e"}),
		"labels value":     !f.labels("label", map[string]string{"a": "x", "c": ""}),
		"labels missing":   !f.labels("label", map[string]string{"a": "b"}),
		"labels unset":     f.labels("nolabel", nil),
		"label!":           !f.labelsMatch(map[string]string{"a": "b", "c": "", "z": ""}),
		"no label!":        f.labelsMatch(map[string]string{"a": "b", "c": ""}),
		"exact":            f.exact("name", "web") && !f.exact("name", "web1") && f.exact("unset", "x"),
		"prefix":           f.prefix("name", "web1") && !f.prefix("name", "aweb"),
		"pattern":          f.pattern("name", "myweb1") && f.pattern("re", "wxb") && !f.pattern("re", "wxbx"),
		"pattern no regex": f.pattern("odd", "a[b") && !f.pattern("odd", "ab"),
	} {
		if !ok {
			t.Error(name)
		}
	}
	if v, ok, err := f.boolean("yes"); !v || !ok || err != nil {
		t.Error("true")
	}
	if v, ok, err := f.boolean("no"); v || !ok || err != nil {
		t.Error("false")
	}
	if _, ok, err := f.boolean("unset"); ok || err != nil {
		t.Error("unset")
	}
	for _, key := range []string{"both", "name"} {
		if _, _, err := f.boolean(key); !errs.Is(err, errs.Invalid) {
			t.Errorf("boolean %s: %v", key, err)
		}
	}
	if err := f.check("label", "label!", "name", "re", "yes", "no", "both"); err == nil || err.Error() != "invalid filter 'odd'" {
		t.Errorf("check: %v", err)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"": {}, "0": {},
		"1136073845":                     time.Unix(1136073845, 0),
		"1136073845.5":                   time.Unix(1136073845, 500000000),
		"1136073845.000000001":           time.Unix(1136073845, 1),
		"2006-01-02T15:04:05Z":           time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC),
		"2006-01-02T15:04:05.000000007Z": time.Date(2006, 1, 2, 15, 4, 5, 7, time.UTC),
		"2006-01-02T15:04:05+01:00":      time.Date(2006, 1, 2, 14, 4, 5, 0, time.UTC),
		"2006-01-02T15:04:05":            time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC),
		"2006-01-02T15:04":               time.Date(2006, 1, 2, 15, 4, 0, 0, time.UTC),
		"2006-01-02":                     time.Date(2006, 1, 2, 0, 0, 0, 0, time.UTC),
		"10m":                            now.Add(-10 * time.Minute),
		"1h30m":                          now.Add(-90 * time.Minute),
	} {
		if got, err := parseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"yesterday", "1.1234567890", "1.-5", "2006-13-02", "."} {
		if got, err := parseTime(bad, now); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func TestParseImageRef(t *testing.T) {
	dig := "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		s, tag string
		want   imageRef
	}{
		{"busybox", "", imageRef{"busybox", "", false}},
		{"busybox", "1", imageRef{"busybox", "1", false}},
		{"busybox:2", "", imageRef{"busybox", "2", false}},
		{"busybox:2", "1", imageRef{"busybox", "1", false}},
		{"docker.io/library/busybox", "latest", imageRef{"busybox", "latest", false}},
		{"host:5000/a/b", "x", imageRef{"host:5000/a/b", "x", false}},
		{"busybox", dig, imageRef{"busybox", dig, true}},
		{"busybox@" + dig, "", imageRef{"busybox", dig, true}},
		{"busybox:1@" + dig, "", imageRef{"busybox", dig, true}},
	} {
		if got, err := parseImageRef(c.s, c.tag); err != nil || got != c.want {
			t.Errorf("%s %s: %+v, %v", c.s, c.tag, got, err)
		}
	}
	for _, c := range [][2]string{{"UPPER", ""}, {"", ""}, {"a b", ""}, {"busybox", "sha256:1"}, {"busybox", "-x"}} {
		if _, err := parseImageRef(c[0], c[1]); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q %q: %v", c[0], c[1], err)
		}
	}
}

func TestAuthFromHeader(t *testing.T) {
	want := brig.Auth{Username: "u", Password: "p?>"}
	for name, h := range map[string]string{
		"URL alphabet":  "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InA_PiJ9",
		"standard":      "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InA/PiJ9",
		"padded":        "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InA_PiJ9IA==",
		"the auth form": "eyJhdXRoIjoiZFRwd1B6ND0ifQ==", // {"auth":"dTpwPz4="}
	} {
		if got := authFromHeader(h); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, h := range []string{"", "!!", "e30=", "bm90IGpzb24="} {
		if got := authFromHeader(h); got != (brig.Auth{}) {
			t.Errorf("%q: %+v", h, got)
		}
	}
}
