package dockerapi

import (
	"testing"

	"github.com/brigd/brig/internal/errs"
)

// FuzzImageRef: a reference that is accepted reads the same when its parts are put together again, whatever header comes with it.
func FuzzImageRef(f *testing.F) {
	f.Add("busybox", "1", "e30=")
	f.Add("host:5000/a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "", "eyJ1c2VybmFtZSI6ImEifQ==")
	f.Fuzz(func(t *testing.T, s, tag, auth string) {
		authFromHeader(auth)
		r, err := parseImageRef(s, tag)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%q %q: %v", s, tag, err)
			}
			return
		}
		if again, err := parseImageRef(r.name, r.tag); err != nil || again != r {
			t.Errorf("%q %q: %+v, then %+v, %v", s, tag, r, again, err)
		}
	})
}
