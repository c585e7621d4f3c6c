package deploy

import (
	"slices"
	"testing"
)

func TestContainersOfTheFormerNameServeUntilTheRenameEnds(t *testing.T) {
	s := new(scene)
	s.container("mail-1", imageA, "web.1", 1, 15025)
	post := mail()
	post.Name = "post"
	post.Images = map[string][]Claim{imageA: {claim("post", 25, 15025, "web")}}
	post.Deploying = &Deployment{Former: "mail", Before: []Place{place("web.1", "mail-1")}}
	// The engine knows the route by the former name first, then by the new one.
	for _, served := range []struct{ name, line string }{
		{"mail", "25 post: web.1=mail-1@15025"},
		{"post", "25 post: web.1=mail-1@15025?"},
	} {
		name, carried := served.name, []string{served.line}
		s.serves(25, name, "127.9.0.1:15025")
		if got := lines(confirmed(s.snapshot(post))); !slices.Equal(got, carried) {
			t.Errorf("served as %s, confirmed:\n got %q\nwant %q", name, got, carried)
		}
		table, problems := s.plan(post)
		if got := lines(table); !slices.Equal(got, carried) || len(problems) > 0 {
			t.Errorf("served as %s:\n got %q, problems %v\nwant %q", name, got, problems, carried)
		}
	}

	// Another app with a container of that name's is nobody's predecessor.
	chat := mail(place("web.1", "mail-1"))
	chat.Name = "chat"
	chat.Deploying = &Deployment{Before: []Place{place("web.1", "mail-1")}}
	held := []string{"25 chat:"}
	if table, _ := (&scene{containers: s.containers, listening: s.listening}).plan(chat); !slices.Equal(lines(table), held) {
		t.Errorf("without a rename:\n got %q\nwant %q", lines(table), held)
	}
	// Nor is the app itself once the rename has ended.
	post.Deploying, post.Places = nil, []Place{place("web.1", "mail-1")}
	held = []string{"25 post:"}
	if got := lines(confirmed(s.snapshot(post))); !slices.Equal(got, held) {
		t.Errorf("after the rename:\n got %q\nwant %q", got, held)
	}
}
