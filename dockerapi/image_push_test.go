package dockerapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Push refuses the repository "denied".
func (s *imageShelf) Push(_ context.Context, r brig.PushRequest, progress func(brig.Progress)) error {
	progress(brig.Progress{Status: "The push refers to repository [" + r.Name + "]"})
	if r.Name == "denied" {
		return errs.New(errs.Forbidden, "denied: requested access to the resource is denied")
	}
	if r.Platform != "" {
		progress(brig.Progress{Status: "for " + r.Platform})
	}
	progress(brig.Progress{Pushed: &brig.Pushed{Tag: r.Tag, Digest: "sha256:00", Size: 7}})
	return nil
}

func TestPushAnswers(t *testing.T) {
	for _, c := range []struct {
		path   string
		status int
		words  []string
	}{
		{"/images/host:5000/a/b/push?tag=1", 200, []string{"repository [host:5000/a/b]", `"aux":{"Tag":"1","Digest":"sha256:00","Size":7}`}},
		{"/images/denied/push?tag=1", 200, []string{`"error":"denied: requested access to the resource is denied"`, `"errorDetail":{"message":"denied:`}},
		{"/images/x/push?tag=1&platform=" + url.QueryEscape(`{"os":"linux","architecture":"arm64","variant":"v8"}`), 200, []string{"for linux/arm64/v8"}},
		{"/v1.45/images/x/push?tag=1&platform=%7B", 200, []string{"repository [x]"}},
		{"/images/x/push?tag=1&platform=linux", 400, []string{"failed to parse platform"}},
		{"/images/x/push?tag=1&platform=" + url.QueryEscape(`{"os":"linux"}`), 400, []string{"both OS and Architecture"}},
		{"/images/x/push?tag=1&platform=" + url.QueryEscape(`{"os":"a b","architecture":"y"}`), 400, []string{"invalid platform"}},
		{"/images/UPPER/push", 400, []string{"invalid reference format"}},
		{"/images/x@" + string(brig.DigestOf(nil)) + "/push", 400, []string{"cannot push a digest reference"}},
	} {
		s := &Server{Backends: Backends{Pushes: &imageShelf{}}}
		s.mux = s.newMux()
		s.log = silent
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, c.path, nil))
		if w.Code != c.status {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
		for _, word := range c.words {
			if !strings.Contains(w.Body.String(), word) {
				t.Errorf("%s: %q is not in %s", c.path, word, w.Body)
			}
		}
	}
}
