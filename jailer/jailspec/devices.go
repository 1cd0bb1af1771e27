package jailspec

import (
	"slices"
	"strings"
)

// Devices are the rules of brig's devfs ruleset, devfs(8)'s words: what a container may see of /dev, and nothing else. They stand alone, for a
// ruleset that includes another one shows what others make of that. shm is the directory that linux_common makes for a mount; a terminal shows
// to the jail that it was made in.
var Devices = []string{
	"hide",
	"path null unhide", "path zero unhide", "path full unhide", "path random unhide", "path urandom unhide", "path crypto unhide",
	"path ptmx unhide", "path pts unhide", "path pts/* unhide", "path fd unhide", "path fd/* unhide",
	"path stdin unhide", "path stdout unhide", "path stderr unhide", "path tty unhide", "path shm unhide",
}

// ParseRuleset reads what "devfs rule show" prints, lines of a number and a rule, in order.
func ParseRuleset(out string) (rules []string) {
	for line := range strings.Lines(out) {
		_, rule, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok {
			rules = append(rules, strings.Join(strings.Fields(rule), " "))
		}
	}
	return rules
}

// former are lists that Devices has been in earlier releases: a ruleset lives until the machine is booted, and so may outlive the brigd that
// made it. Who changes Devices puts the old list here.
var former [][]string

// Ours reports whether a ruleset holds what brig makes, or a beginning of it: a brigd may be killed while it adds rule by rule. An empty one
// is nobody's, and so brig's to take.
func Ours(rules []string) bool {
	for _, list := range append([][]string{Devices}, former...) {
		if len(rules) <= len(list) && slices.Equal(rules, list[:len(rules)]) {
			return true
		}
	}
	return false
}
