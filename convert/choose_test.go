package convert

import (
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct{ has, want, chosen string }{
		{"linux/arm64 linux/amd64", "linux/amd64", "linux/amd64"},
		{"linux/arm64/v8 linux/amd64", "linux/arm64", "linux/arm64/v8"},
		{"linux/amd64 freebsd/amd64", "freebsd/amd64 linux/amd64", "freebsd/amd64"},
		{"linux/arm64 linux/amd64", "freebsd/amd64 linux/amd64", "linux/amd64"},
		{"linux/386 windows/amd64", "linux/amd64", "linux/386"},
		{"linux/s390x linux/riscv64", "linux/amd64", "linux/s390x"},
		{"unknown/unknown -linux/amd64 linux/arm64", "linux/amd64", "linux/arm64"}, // - isn't in the archive
		{"-linux/amd64", "linux/amd64", ""},
	} {
		a := &archive{entries: map[string]entry{}}
		var list []descriptor
		for _, s := range strings.Fields(c.has) {
			name := strings.TrimPrefix(s, "-")
			p := brig.ParsePlatform(name)
			d := brig.DigestOf([]byte(name))
			list = append(list, descriptor{Digest: string(d), Platform: &platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}})
			if name == s {
				a.entries[blobPath(d)] = entry{}
			}
		}
		for _, w := range strings.Fields(c.want) {
			a.want = append(a.want, brig.ParsePlatform(w))
		}
		got := ""
		if d := a.choose(list); d.Platform != nil {
			got = brig.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant}.String()
		}
		if got != c.chosen {
			t.Errorf("%s of %s: %q, want %q", c.want, c.has, got, c.chosen)
		}
	}
}
