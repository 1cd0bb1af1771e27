package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/brigd/brig/internal/brig"
)

// eventMessage is moby's Message with the fields of API 1.21 and before, which were in every answer up to 1.51.
type eventMessage struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

var eventFilters = []string{"event", "type", "scope", "label", "container", "image", "volume", "network", "daemon",
	"plugin", "node", "service", "secret", "config"}

// events streams events, one JSON document each. Its headers go out when no later event can be missed.
func (s *Server) events(ctx context.Context, r *request) (response, error) {
	now := time.Now()
	since, until, err := r.sinceUntil(now)
	if err != nil {
		return nil, err
	}
	f, err := r.filters(eventFilters...)
	if err != nil {
		return nil, err
	}
	if since.IsZero() && until.IsZero() {
		since = now // nothing of the past was asked for
	}
	if err := r.drain(); err != nil {
		return nil, err
	}
	return func(a *answer) error {
		a.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(a)
		enc.SetEscapeHTML(false)
		err := s.System.Events(ctx, since, until, a.Flush, func(e brig.Event) error {
			m := newEventMessage(e)
			if !f.event(&m.Message) {
				return nil
			}
			if err := enc.Encode(m); err != nil {
				return err
			}
			a.Flush()
			return nil
		})
		if errors.Is(err, context.Canceled) {
			return nil // the client has gone, or the daemon goes
		}
		return err
	}, nil
}

func newEventMessage(e brig.Event) eventMessage {
	m := eventMessage{Message: events.Message{
		Type: events.Type(e.Type), Action: events.Action(e.Action),
		Actor: events.Actor{ID: e.ActorID, Attributes: e.Attributes},
		Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano(),
	}}
	if m.Actor.Attributes == nil {
		m.Actor.Attributes = map[string]string{}
	}
	switch m.Type {
	case events.ContainerEventType:
		m.Status, m.ID, m.From = e.Action, e.ActorID, e.Attributes["image"]
	case events.ImageEventType:
		m.Status, m.ID = e.Action, e.ActorID
	}
	return m
}

// event reports whether the filters let m pass. Names and IDs match by prefix, and whatever the event's type is, as dockerd has it.
func (f filters) event(m *events.Message) bool {
	for _, object := range []string{"container", "volume", "network", "daemon", "plugin", "node", "service", "secret", "config"} {
		if !f.prefix(object, m.Actor.ID) && !f.prefix(object, m.Actor.Attributes["name"]) {
			return false
		}
	}
	return f.eventAction(string(m.Action)) && f.exact("type", string(m.Type)) && f.exact("scope", m.Scope) &&
		f.eventImage(m) && f.labels("label", m.Actor.Attributes)
}

// eventAction matches the action; "health_status", "exec_create" and "exec_start" also match what follows their colon.
func (f filters) eventAction(action string) bool {
	head, _, _ := strings.Cut(action, ":")
	if slices.Contains([]string{"health_status", "exec_create", "exec_start"}, head) && slices.Contains(f["event"], head) {
		return true
	}
	return f.exact("event", action)
}

// eventImage matches an image's name, with or without tag, or ID: its own events, and those of containers made from it.
func (f filters) eventImage(m *events.Message) bool {
	name := m.Actor.Attributes["image"]
	if m.Type == events.ImageEventType {
		name = m.Actor.Attributes["name"]
	}
	return f.anyOf("image", func(want string) bool {
		return want == m.Actor.ID || want == name || want == withoutTag(m.Actor.ID) || want == withoutTag(name)
	})
}

// withoutTag returns "busybox" for "busybox:latest"; what is no reference stays as it is.
func withoutTag(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarName(ref)
}
