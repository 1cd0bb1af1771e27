package runtime

import (
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/errs"
)

// FuzzRefs: a reference that is accepted is normalized, reads the same when it is shown and typed again, and has one name and one tag or digest.
func FuzzRefs(f *testing.F) {
	for _, s := range []string{"busybox", "a/b:c", "localhost:5000/x@sha256:" + hex64, hex64, "[::1]:5000/x:y", "index.docker.io/x", "x:1@sha256:" + hex64, "a@b", "sha256:" + hex64} {
		f.Add(s, "1")
		f.Add(s, "sha256:"+hex64)
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, name, tag string) {
		for what, parse := range map[string]func(string, string) (reference.Named, error){
			"pull": pullRef, "tag": tagRef,
			"parse": func(s, _ string) (reference.Named, error) { p, err := parseRef(s); return p.named, err },
		} {
			n, err := parse(name, tag)
			if err != nil {
				if !errs.Is(err, errs.Invalid) {
					t.Errorf("%s %q %q: %v (%v)", what, name, tag, err, errs.KindOf(err))
				}
				continue
			}
			if n == nil {
				continue // an ID
			}
			ref := n.String()
			again, err := pullRef(ref, "")
			if err != nil || again.String() != ref {
				t.Errorf("%s %q %q: %s, then %v, %v", what, name, tag, ref, again, err)
			}
			if refName(ref) != n.Name() || isDigestRef(ref) != strings.Contains(ref, "@") || slices.Contains(strings.Split(n.Name(), "/"), "..") {
				t.Errorf("%s %q %q: %s has the name %s", what, name, tag, ref, refName(ref))
			}
			if back, err := pullRef(familiar(ref), ""); err != nil || back.String() != ref {
				t.Errorf("%s %q %q: %s is shown as %s, which is %v, %v", what, name, tag, ref, familiar(ref), back, err)
			}
		}
	})
}
