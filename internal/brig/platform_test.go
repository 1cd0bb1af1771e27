package brig

import (
	"strings"
	"testing"

	"github.com/brigd/brig/internal/errs"
)

func TestReadPlatform(t *testing.T) {
	host := Platform{"freebsd", "arm64", ""}
	for s, want := range map[string]string{
		"linux/amd64": "linux/amd64", "Linux/X86_64": "linux/amd64", "linux/arm64/v8": "linux/arm64", "linux/arm": "linux/arm/v7", "linux/armel": "linux/arm/v6",
		"linux": "linux/arm64", "freebsd": "freebsd/arm64", "amd64": "freebsd/amd64", "aarch64": "freebsd/arm64", "macos/arm64": "darwin/arm64",
		"linux/amd64/v3": "linux/amd64/v3", "nosuch/system": "nosuch/system",
	} {
		if p, err := ReadPlatform(s, host); err != nil || p.String() != want {
			t.Errorf("%s: %s, %v, want %s", s, p, err, want)
		}
	}
	for s, words := range map[string]string{
		"nonsense":     `"nonsense": unknown operating system or architecture`,
		"linux/a/b/c":  `"linux/a/b/c": cannot parse platform specifier`,
		"linux/":       `"" is an invalid component of "linux/"`,
		"linux/a b":    `"a b" is an invalid component of "linux/a b"`,
		"*":            `"*" is an invalid component`,
		"linux/../etc": `".." is an invalid component`,
	} {
		if _, err := ReadPlatform(s, host); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %s", s, err, words)
		}
	}
}

func TestSuits(t *testing.T) {
	for _, c := range []struct {
		want, have string
		ok         bool
	}{
		{"linux/amd64", "linux/amd64", true}, {"linux/x86_64", "linux/amd64", true}, {"Linux/AMD64", "linux/amd64", true}, {"linux/amd64", "linux/arm64", false},
		{"linux/amd64", "linux/386", true}, {"linux/386", "linux/amd64", false}, {"linux/amd64/v3", "linux/amd64", true}, {"linux/amd64", "linux/amd64/v3", false},
		{"linux/arm64", "linux/arm64/v8", true}, {"linux/arm64/v8", "linux/arm64", true}, {"linux/aarch64", "linux/arm64", true}, {"linux/arm64", "linux/arm/v7", true},
		{"linux/arm/v6", "linux/arm/v7", false}, {"linux/arm/v6", "linux/arm/v5", true}, {"linux/arm", "linux/arm/v7", true}, {"linux/arm/v6", "linux/arm", false},
		{"freebsd/amd64", "linux/amd64", false}, {"linux/riscv64", "linux/riscv64", true},
	} {
		if got := ParsePlatform(c.want).Suits(ParsePlatform(c.have)); got != c.ok {
			t.Errorf("%s for %s: %v", c.have, c.want, got)
		}
	}
}
