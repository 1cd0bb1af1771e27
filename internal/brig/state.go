package brig

import (
	"slices"

	"github.com/brigd/brig/internal/errs"
)

// State is where a container stands in its life. The zero value is Created.
type State int

// The states, with Docker's names.
const (
	Created State = iota
	Running
	Paused
	Restarting // exited, and the restart policy's backoff runs
	Removing
	Exited
	Dead // its removal failed; only another removal is allowed
)

var stateNames = [...]string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}

// moves is the whole table: a move that is not here does not happen.
var moves = map[State][]State{
	Created:    {Running, Removing, Exited},
	Running:    {Paused, Restarting, Exited},
	Paused:     {Running, Exited, Restarting},
	Restarting: {Running, Exited, Removing},
	Removing:   {Dead},
	Exited:     {Running, Restarting, Removing},
	Dead:       {Removing},
}

// String returns Docker's name of the state.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// ParseState is String's inverse.
func ParseState(name string) (State, error) {
	if i := slices.Index(stateNames[:], name); i >= 0 {
		return State(i), nil
	}
	return 0, errs.New(errs.Invalid, "invalid container state %q", name)
}

// MarshalText and UnmarshalText keep states readable in records.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts what MarshalText writes.
func (s *State) UnmarshalText(b []byte) (err error) { *s, err = ParseState(string(b)); return err }

// Active reports whether the container has, or will by itself have again, a process.
func (s State) Active() bool { return s == Running || s == Paused || s == Restarting }

// HasProcess reports whether the container has a process now.
func (s State) HasProcess() bool { return s == Running || s == Paused }

// Move returns a Conflict if the table has no move from s to the next state.
func (s State) Move(to State) error {
	if slices.Contains(moves[s], to) {
		return nil
	}
	return errs.New(errs.Conflict, "a container that is %s can't become %s", s, to)
}
