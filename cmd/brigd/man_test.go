package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// brigd(8) has each option that brigd has, with its short form, and no other one.
func TestManPage(t *testing.T) {
	page, err := os.ReadFile("../../man/brigd.8")
	if err != nil {
		t.Fatal(err)
	}
	cmd := command()
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	said := map[string]string{} // short forms by name
	for _, m := range regexp.MustCompile(`(?m)^\.It Fl (?:([A-Za-z]) , )?-([a-z-]+)`).FindAllStringSubmatch(string(page), -1) {
		said[m[2]] = m[1]
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if short, ok := said[f.Name]; !ok || short != f.Shorthand {
			t.Errorf("brigd.8 should have .It Fl %s-%s", strings.TrimPrefix(f.Shorthand+" , ", " , "), f.Name)
		}
		delete(said, f.Name)
	})
	for name := range said {
		t.Errorf("brigd.8 has --%s, which brigd doesn't", name)
	}
}
