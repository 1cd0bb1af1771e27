package dockerapi

import (
	"context"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Describe knows all names but those with "nosuch".
func (s *imageShelf) Describe(_ context.Context, ref string, _ brig.Auth) (*brig.Distribution, error) {
	if strings.Contains(ref, "nosuch") {
		return nil, errs.New(errs.NotFound, "manifest unknown")
	}
	return &brig.Distribution{Descriptor: brig.Descriptor{MediaType: "t", Digest: brig.DigestOf(nil), Size: 5}, Platforms: []brig.Platform{{OS: "linux", Architecture: "arm", Variant: "v7"}}}, nil
}

func TestDistribution(t *testing.T) {
	d := newDaemon(t)
	want := `{"Descriptor":{"mediaType":"t","digest":"` + string(brig.DigestOf(nil)) + `","size":5},"Platforms":[{"architecture":"arm","os":"linux","variant":"v7"}]}` + "\n"
	if got := d.want(t, 200, "GET", "/distribution/a/b:1/json", nil); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d.message(t, 404, "GET", "/distribution/nosuch/json", nil)
	d.message(t, 400, "GET", "/distribution/UP/json", nil)
}
