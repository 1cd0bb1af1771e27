package runtime

import (
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestPullRef(t *testing.T) {
	for _, c := range []struct{ name, tag, want string }{
		{"busybox", "", "docker.io/library/busybox:latest"},
		{"busybox", "1.36", "docker.io/library/busybox:1.36"},
		{"busybox:1", "", "docker.io/library/busybox:1"},
		{"busybox:1", "2", "docker.io/library/busybox:2"},
		{"busybox", "sha256:" + hex64, "docker.io/library/busybox@sha256:" + hex64},
		{"busybox:1@sha256:" + hex64, "", "docker.io/library/busybox@sha256:" + hex64},
		{"localhost:5000/a/b", "x", "localhost:5000/a/b:x"},
		{"index.docker.io/library/x", "", "docker.io/library/x:latest"},
		{"Busybox", "", "invalid reference format"},
		{"", "", "invalid reference format"},
		{"a b", "", "invalid reference format"},
		{"busybox", "a b", "invalid tag format"},
		{hex64, "", "invalid repository name"},
	} {
		named, err := pullRef(c.name, c.tag)
		switch {
		case strings.HasPrefix(c.want, "invalid"):
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: error %v, want %s", c.name, c.tag, err, c.want)
			}
		case err != nil || named.String() != c.want:
			t.Errorf("%s, %s: %v, %v, want %s", c.name, c.tag, named, err, c.want)
		}
	}
}

func TestTagRef(t *testing.T) {
	for _, c := range []struct{ repo, tag, want string }{
		{"x", "", "docker.io/library/x:latest"},
		{"x", "1", "docker.io/library/x:1"},
		{"x:2", "", "docker.io/library/x:2"},
		{"h.io/x", "1", "h.io/x:1"},
		{"X", "", "invalid reference format"},
		{"x", "-", "invalid tag format"},
		{"x@sha256:" + hex64, "", "cannot import digest reference"},
		{"sha256", "1", "refusing to create an ambiguous tag"},
	} {
		named, err := tagRef(c.repo, c.tag)
		if err != nil {
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: error %v, want %s", c.repo, c.tag, err, c.want)
			}
		} else if named.String() != c.want {
			t.Errorf("%s, %s: %v, want %s", c.repo, c.tag, named, c.want)
		}
	}
}

// TestFind looks images up by every kind of name. The images have IDs of which some begin alike.
func TestFind(t *testing.T) {
	id := func(prefix string) brig.Digest {
		return brig.Digest("sha256:" + prefix + strings.Repeat("0", 64-len(prefix)))
	}
	a, b, c := id("aa1"), id("aa2"), id("cafe")
	i := &Images{images: map[brig.Digest]*imageEntry{}, refs: refTable{
		"docker.io/library/x:latest": a, "docker.io/library/x:1": b, "docker.io/u/x:latest": c, "r.io:5000/y:2": b,
		"docker.io/library/cafe:latest": b, "docker.io/library/x@sha256:" + hex64: c,
	}}
	for _, d := range []brig.Digest{a, b, c} {
		i.images[d] = &imageEntry{img: &brig.Image{ID: d}}
	}
	for _, x := range []struct {
		ref  string
		want brig.Digest
		err  string
	}{
		{"x", a, ""}, {"x:1", b, ""}, {"docker.io/library/x", a, ""}, {"library/x:1", b, ""}, {"u/x", c, ""}, {"r.io:5000/y:2", b, ""},
		{"x@sha256:" + hex64, c, ""}, {"x:nosuch@sha256:" + hex64, c, ""},
		{string(a), a, ""}, {a.Hex(), a, ""}, {"sha256:aa1", a, ""}, {"aa1", a, ""}, {"aa10", a, ""}, {"caf", c, ""},
		{"cafe", b, ""}, // the name wins
		{"sha256:cafe", c, ""},
		{"aa", "", "No such image: aa:latest"}, // two begin so
		{"nosuch", "", "No such image: nosuch:latest"},
		{"x:2", "", "No such image: x:2"},
		{"r.io:5000/y", "", "No such image: r.io:5000/y:latest"},
		{"sha256:", "", "invalid reference format"},
		{"sha256:bbb", "", "No such image: sha256:bbb"},
		{hex64, "", "No such image: sha256:" + hex64},
		{"u/x@sha256:" + hex64, "", "No such image: u/x@sha256:" + hex64},
		{"", "", "invalid reference format"},
		{"AA1", "", "invalid reference format"},
		{"../x", "", "invalid reference format"},
	} {
		e, _, err := i.find(x.ref)
		switch {
		case x.err != "":
			if err == nil || !strings.HasPrefix(err.Error(), x.err) {
				t.Errorf("%q: error %v, want %s", x.ref, err, x.err)
			}
			if kind := errs.KindOf(err); (kind == errs.Invalid) != strings.HasPrefix(x.err, "invalid") || kind != errs.Invalid && kind != errs.NotFound {
				t.Errorf("%q: kind %v", x.ref, kind)
			}
		case err != nil || e.img.ID != x.want:
			t.Errorf("%q: %v, %v, want %s", x.ref, e, err, x.want)
		}
	}
}

func TestSplitAndSingle(t *testing.T) {
	const l = "docker.io/library/"
	tags, digests := familiarSplit([]string{l + "b:1", l + "a@sha256:" + hex64, "h.io:1/c:2", l + "a:1"})
	if !slices.Equal(tags, []string{"a:1", "b:1", "h.io:1/c:2"}) || !slices.Equal(digests, []string{"a@sha256:" + hex64}) {
		t.Errorf("tags %v, digests %v", tags, digests)
	}
	for _, c := range []struct {
		refs []string
		want bool
	}{
		{nil, true}, {[]string{"a:1"}, true}, {[]string{"a:1", "a@d"}, true}, {[]string{"a:1", "a@d", "a@e"}, true}, {[]string{"a@d", "a@e"}, true},
		{[]string{"a:1", "a:2"}, false}, {[]string{"a:1", "b@d"}, false}, {[]string{"a@d", "b@d"}, false}, {[]string{"h:5/a:1", "h:5/a@d"}, true},
	} {
		if got := isSingle(c.refs); got != c.want {
			t.Errorf("%v: single %v, want %v", c.refs, got, c.want)
		}
	}
}
