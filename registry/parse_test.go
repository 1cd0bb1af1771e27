package registry

import (
	"net/http"
	"reflect"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestChallenges(t *testing.T) {
	tests := []struct {
		header []string
		want   []challenge
	}{
		{nil, nil},
		{[]string{`Basic realm="a \"b\""`}, []challenge{{"basic", map[string]string{"realm": `a "b"`}}}},
		{[]string{`Bearer realm="https://x/t",service=s , scope="a,b"`}, []challenge{{"bearer", map[string]string{"realm": "https://x/t", "service": "s", "scope": "a,b"}}}},
		{[]string{`Negotiate, Basic realm=x`}, []challenge{{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "x"}}}},
		{[]string{`Basic realm=x, Bearer realm="y"`}, []challenge{{"basic", map[string]string{"realm": "x"}}, {"bearer", map[string]string{"realm": "y"}}}},
		{[]string{"Negotiate", `Bearer realm="unclosed`}, []challenge{{"negotiate", map[string]string{}}, {"bearer", map[string]string{"realm": "unclosed"}}}},
	}
	for _, tt := range tests {
		if got := challenges(http.Header{"Www-Authenticate": tt.header}); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: got %v", tt.header, got)
		}
	}
}

func TestPick(t *testing.T) {
	entry := func(platform, digit string) rawDescriptor {
		e := rawDescriptor{MediaType: typeOCIManifest, Digest: "sha256:" + digit + "000000000000000000000000000000000000000000000000000000000000000"}
		if platform != "" {
			p := brig.ParsePlatform(platform)
			e.Platform = &struct {
				OS           string `json:"os"`
				Architecture string `json:"architecture"`
				Variant      string `json:"variant"`
			}{p.OS, p.Architecture, p.Variant}
		}
		return e
	}
	linux := []string{"linux/386", "linux/amd64", "linux/amd64/v3", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/s390x"}
	tests := []struct {
		has  []string
		want []brig.Platform
		pick string // index in has; "" none
	}{
		{linux, wanted("linux/amd64"), "1"},
		{linux, wanted("linux/x86_64"), "1"},
		{linux, wanted("linux/amd64/v2"), "1"},
		{linux, wanted("linux/amd64/v4"), "2"},
		{linux, wanted("linux/arm"), "5"},
		{linux, wanted("linux/arm/v6"), "4"},
		{linux, wanted("linux/arm/v8"), "5"},
		{linux, wanted("linux/arm64"), "6"},
		{linux, wanted("linux/aarch64/v8"), "6"},
		{linux, wanted("windows/amd64"), ""},
		{linux, wanted("linux/riscv64"), ""},
		{linux[:1], wanted("linux/amd64"), "0"},
		{linux[3:5], wanted("linux/arm64"), "1"},
		{linux, brig.DefaultPlatforms("freebsd", "amd64"), "1"},
		{append(linux, "freebsd/amd64"), brig.DefaultPlatforms("freebsd", "amd64"), "8"},
		{[]string{""}, wanted("linux/amd64"), "0"},
		{[]string{"", "linux/amd64"}, wanted("linux/amd64"), "1"},
		{nil, wanted("linux/amd64"), ""},
	}
	for _, tt := range tests {
		d := &document{mediaType: typeOCIIndex}
		for i, p := range tt.has {
			d.parsed.Manifests = append(d.parsed.Manifests, entry(p, string(rune('0'+i))))
		}
		got, err := pick(d, tt.want)
		if (err != nil) != (tt.pick == "") || err == nil && got.Digest[7:8] != brig.Digest(tt.pick) {
			t.Errorf("%v of %v: %v, %v", tt.want, tt.has, got.Digest, err)
		}
	}
}
