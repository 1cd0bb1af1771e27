package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/brigd/brig/internal/podspec"
)

// manual is brig(8), the text of each command by its words, "image ls"; "" is what stands before the first one.
func manual(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../man/brig.8")
	if err != nil {
		t.Fatal(err)
	}
	out, now := map[string]string{}, ""
	item := regexp.MustCompile(`^\.It Ic ([a-z]+(?: [a-z]+)*)`)
	for line := range strings.Lines(string(page)) {
		if m := item.FindStringSubmatch(line); m != nil {
			now = m[1]
		}
		out[now] += line
	}
	return out
}

// brig(8) has each command and each of its options, in a line ".It Ic image ls Op Fl -no-trunc" and the text below it, and no other ones.
func TestManPage(t *testing.T) {
	pages := manual(t)
	option := regexp.MustCompile(`[ .]Fl (?:[A-Za-z] , )?-([a-z][a-z-]*)`)
	options := func(text string) map[string]bool {
		out := map[string]bool{}
		for _, m := range option.FindAllStringSubmatch(text, -1) {
			out[m[1]] = true
		}
		return out
	}
	root := command()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	seen := map[string]bool{"": true}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		name := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "brig"), " ")
		if c == root || c.Runnable() && !c.Hidden || name == "completion" {
			text, ok := pages[name]
			if !ok {
				t.Errorf("brig.8 lacks .It Ic %s", name)
			}
			seen[name] = true
			said, has := options(text), map[string]bool{"help": true, "version": true}
			if slices.Contains([]string{"pod run", "pod prepare", "run"}, name) { // an app's options stand behind its image
				new(ordering).appFlags(new(podspec.AppOptions), new(string)).VisitAll(func(f *pflag.Flag) {
					has[f.Name] = true
					if !said[f.Name] {
						t.Errorf("brig.8 doesn't say what %s's app option --%s is", name, f.Name)
					}
				})
			}
			c.LocalFlags().VisitAll(func(f *pflag.Flag) {
				has[f.Name] = true
				if !said[f.Name] && !f.Hidden && f.Name != "help" {
					t.Errorf("brig.8 doesn't say what %s --%s is", name, f.Name)
				}
			})
			for f := range said {
				if !has[f] && c.InheritedFlags().Lookup(f) == nil {
					t.Errorf("brig.8 has %s --%s, which isn't there", name, f)
				}
			}
		}
		for _, sub := range c.Commands() {
			if name != "completion" {
				walk(sub)
			}
		}
	}
	walk(root)
	for name := range pages {
		if !seen[name] {
			t.Errorf("brig.8 has %q, which is no command", name)
		}
	}
}
