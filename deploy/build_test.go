package deploy

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

func TestPlan(t *testing.T) {
	tests := []struct {
		name     string
		arrange  func(s *scene) []App
		want     []string
		problems []string
	}{
		{
			name: "one container serves",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				return []App{mail(place("web.1", "mail-1"))}
			},
			want: []string{"25 mail: web.1=mail-1@15025"},
		}, {
			name: "all containers of a scaled process type serve, in the order of their numbers",
			arrange: func(s *scene) []App {
				s.container("mail-10", imageA, "web.10", 1, 15025)
				s.container("mail-2", imageA, "web.2", 2, 15025)
				s.container("mail-1", imageA, "web.1", 3, 15025)
				s.container("mail-w", imageA, "worker.1", 4, 15025)
				return []App{mail(place("web.10", "mail-10"), place("web.2", "mail-2"), place("web.1", "mail-1"), place("worker.1", "mail-w"))}
			},
			want: []string{"25 mail: web.1=mail-1@15025 web.2=mail-2@15025 web.10=mail-10@15025"},
		}, {
			name: "a container that Docker says is another app's gets nothing",
			arrange: func(s *scene) []App {
				s.container("other-1", imageA, "web.1", 1, 15025)
				return []App{mail(place("web.1", "other-1"))}
			},
			want:     []string{"25 mail:"},
			problems: []string{"web.1 (other-1) is gone from Docker"},
		}, {
			name: "a dead container leaves a route that holds",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.stop("mail-1")
				return []App{mail(place("web.1", "mail-1"))}
			},
			want:     []string{"25 mail:"},
			problems: []string{"mail: public port 25: no container serves it: web.1 (mail-1) does not run (Docker says \"exited\"); start the app anew: dokku ps:restart mail"},
		}, {
			name: "a dead container is no problem where another one serves",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.container("mail-2", imageA, "web.2", 2, 15025)
				s.stop("mail-1")
				return []App{mail(place("web.1", "mail-1"), place("web.2", "mail-2"))}
			},
			want: []string{"25 mail: web.2=mail-2@15025"},
		}, {
			name: "scaled to zero there is no route, and all ports of the process type are told at once",
			arrange: func(s *scene) []App {
				s.container("mail-w", imageA, "worker.1", 1, 15025)
				a := mail(place("worker.1", "mail-w"))
				a.Operator = []Claim{{App: "mail", Key: Key{Port: 24}, Private: 15024, Process: "web"}}
				return []App{a}
			},
			problems: []string{"mail: public port 24-25: it is closed, since the process type web has no container (expose:add, PORTS line 1); " +
				"start one: dokku ps:scale mail web=1; or name another process type with process=TYPE (worker)"},
		}, {
			name: "an app that was never deployed",
			arrange: func(*scene) []App {
				return []App{{Name: "mail", Operator: []Claim{{App: "mail", Key: Key{Port: 24}, Private: 15024, Process: "web"}}}}
			},
			problems: []string{"mail: public port 24: it is closed, since the process type web has no container (expose:add); start one: dokku ps:scale mail web=1"},
		}, {
			name: "stopped by an operator there is no route",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				a := mail(place("web.1", "mail-1"))
				a.Off = "stopped"
				return []App{a}
			},
		}, {
			name: "each container serves with the mapping of its image",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageB, "web.1", 1, 16025, 16026)
				s.container("mail-2", imageA, "web.2", 2, 15025)
				return []App{mail(place("web.1", "mail-1"), place("web.2", "mail-2"))}
			},
			want: []string{"25 mail: web.1=mail-1@16025 web.2=mail-2@15025", "26 mail: web.1=mail-1@16026"},
		}, {
			name: "when all containers are of another image the current one's ports are gone",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				a := mail(place("web.1", "mail-1"))
				a.Current = imageB
				return []App{a}
			},
			want: []string{"25 mail: web.1=mail-1@15025"},
		}, {
			name: "an image that was never read goes by the current PORTS",
			arrange: func(s *scene) []App {
				s.container("mail-1", "sha256:c", "web.1", 1, 15025)
				return []App{mail(place("web.1", "mail-1"))}
			},
			want: []string{"25 mail: web.1=mail-1@15025"},
		}, {
			name: "an operator's mapping goes for any image",
			arrange: func(s *scene) []App {
				s.container("mail-1", "sha256:c", "web.1", 1, 15025, 17000)
				a := mail(place("web.1", "mail-1"))
				a.Operator = []Claim{claim("mail", 70, 17000, "web")}
				return []App{a}
			},
			want: []string{"25 mail: web.1=mail-1@15025", "70 mail: web.1=mail-1@17000"},
		}, {
			name: "in the middle of a deploy the containers from before it serve",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.container("mail-2", imageB, "web.1", 2, 16025, 16026)
				a := mail(place("web.1", "mail-2"))
				a.Deploying = &Deployment{Before: []Place{place("web.1", "mail-1")}}
				return []App{a}
			},
			want: []string{"25 mail: web.1=mail-1@15025"},
		}, {
			name: "in the middle of a deploy a new container serves where no old one is alive",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.stop("mail-1")
				s.container("mail-2", imageB, "web.1", 2, 16025, 16026)
				a := mail(place("web.1", "mail-2"))
				a.Deploying = &Deployment{Before: []Place{place("web.1", "mail-1")}}
				return []App{a}
			},
			want: []string{"25 mail: web.1=mail-2@16025", "26 mail: web.1=mail-2@16026"},
		}, {
			name: "a container that is about to be stopped gets no new connection",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.serves(25, "mail", "127.9.0.1:15025")
				a := mail(place("web.1", "mail-1"))
				a.Deploying = &Deployment{Before: []Place{place("web.1", "mail-1")}, Retired: []string{"mail-1"}}
				return []App{a}
			},
			want: []string{"25 mail:"},
		}, {
			name: "a container that does not accept never replaces one that does",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.container("mail-2", imageA, "web.1", 2)
				s.serves(25, "mail", "127.9.0.1:15025")
				return []App{mail(place("web.1", "mail-2"))}
			},
			want:     []string{"25 mail: web.1=mail-1@15025"},
			problems: []string{ErrKept.Error()},
		}, {
			name: "of three it keeps only the place of the one that does not accept",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.container("mail-2", imageA, "web.2", 2, 15025)
				s.container("mail-3", imageA, "web.1", 3, 15025)
				s.container("mail-4", imageA, "web.2", 4)
				s.serves(25, "mail", "127.9.0.1:15025", "127.9.0.2:15025")
				return []App{mail(place("web.1", "mail-3"), place("web.2", "mail-4"))}
			},
			want:     []string{"25 mail: web.1=mail-3@15025 web.2=mail-2@15025"},
			problems: []string{ErrKept.Error()},
		}, {
			name: "a container that does not accept does not keep one that does not either",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1)
				s.container("mail-2", imageA, "web.1", 2)
				s.serves(25, "mail", "127.9.0.1:15025")
				return []App{mail(place("web.1", "mail-2"))}
			},
			want:     []string{"25 mail:"},
			problems: []string{ErrNotAccepting.Error()},
		}, {
			name: "an address that another app's container has now is not kept",
			arrange: func(s *scene) []App {
				s.container("other-1", imageA, "web.1", 1, 15025)
				s.container("mail-2", imageA, "web.1", 2)
				s.serves(25, "mail", "127.9.0.1:15025")
				return []App{mail(place("web.1", "mail-2"))}
			},
			want:     []string{"25 mail:"},
			problems: []string{ErrNotAccepting.Error()},
		}, {
			name: "a server that is served already is not asked again",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1)
				s.serves(25, "mail", "127.9.0.1:15025")
				return []App{mail(place("web.1", "mail-1"))}
			},
			want: []string{"25 mail: web.1=mail-1@15025?"},
		}, {
			name: "a server that is down is asked again, and proven when it accepts",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.container("mail-2", imageA, "web.2", 2)
				s.serving = map[Key]RouteState{{Port: 25}: {App: "mail", Servers: down(
					netip.MustParseAddrPort("127.9.0.1:15025"), netip.MustParseAddrPort("127.9.0.2:15025"))}}
				return []App{mail(place("web.1", "mail-1"), place("web.2", "mail-2"))}
			},
			want:     []string{"25 mail: web.1=mail-1@15025"},
			problems: []string{"web.2 (mail-2) at 127.9.0.2:15025 does not accept connections yet"},
		}, {
			name: "an app whose files are broken keeps what it has",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.container("other-1", imageA, "web.1", 2, 15025)
				s.serves(25, "mail", "127.9.0.1:15025", "127.9.0.2:15025")
				s.serves(26, "other", "127.9.0.2:15025")
				return []App{{Name: "mail", Err: errors.New("mail.toml line 1")}}
			},
			want:     []string{"25 mail: web.1=mail-1@15025?"},
			problems: []string{"mail.toml line 1"},
		}, {
			name: "an address of two apps stays with the one whose PORTS is in force",
			arrange: func(s *scene) []App {
				s.container("abba-1", imageB, "web.1", 1, 15025)
				s.container("mail-1", imageA, "web.1", 2, 15025)
				stranger := App{
					Name: "abba", Current: imageA, Places: []Place{place("web.1", "abba-1")},
					Images: map[string][]Claim{imageA: nil, imageB: {claim("abba", 25, 15025, "web")}},
				}
				return []App{stranger, mail(place("web.1", "mail-1"))}
			},
			want:     []string{"25 mail: web.1=mail-1@15025"},
			problems: []string{"belongs to the app mail already"},
		}, {
			name: "an address that two apps have in force stays with the one that is served there",
			arrange: func(s *scene) []App {
				s.container("abba-1", imageA, "web.1", 1, 15025)
				s.container("mail-1", imageA, "web.1", 2, 15025)
				s.serves(25, "mail", "127.9.0.2:15025")
				other := mail(place("web.1", "abba-1"))
				other.Name, other.Images = "abba", map[string][]Claim{imageA: {claim("abba", 25, 15025, "web")}}
				return []App{other, mail(place("web.1", "mail-1"))}
			},
			want:     []string{"25 mail: web.1=mail-1@15025?"},
			problems: []string{"belongs to the app mail already"},
		}, {
			name: "a stopped app's address is not for one that does not have it in force",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageB, "web.1", 1, 16025, 16026)
				s.container("mail-2", imageA, "web.2", 2, 15025)
				zulu := App{Name: "zulu", Off: "stopped", Current: imageA, Images: map[string][]Claim{imageA: {claim("zulu", 26, 15025, "web")}}}
				return []App{mail(place("web.1", "mail-1"), place("web.2", "mail-2")), zulu}
			},
			want:     []string{"25 mail: web.1=mail-1@16025 web.2=mail-2@15025"},
			problems: []string{"belongs to the app zulu already"},
		}, {
			name: "what can be read of an app's broken files is not for another app either",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageB, "web.1", 1, 16025, 16026)
				s.container("zulu-1", imageA, "web.1", 2, 15025)
				s.serves(70, "zulu", "127.9.0.2:15025")
				zulu := App{Name: "zulu", Err: errors.New("zulu.toml line 1"), Operator: []Claim{claim("zulu", 26, 15025, "web"), claim("zulu", 70, 15025, "web")}}
				return []App{mail(place("web.1", "mail-1")), zulu}
			},
			want:     []string{"25 mail: web.1=mail-1@16025", "70 zulu: web.1=zulu-1@15025?"},
			problems: []string{"zulu.toml line 1", "belongs to the app zulu already"},
		}, {
			name: "who is served by right is not interrupted for a stopped app",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.serves(25, "mail", "127.9.0.1:15025")
				abba := App{Name: "abba", Off: "stopped", Operator: []Claim{claim("abba", 25, 15025, "web")}}
				return []App{abba, mail(place("web.1", "mail-1"))}
			},
			want: []string{"25 mail: web.1=mail-1@15025?"},
		}, {
			name: "a container without an address is told, and its route holds",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1)
				s.containers[0].Direct = nil
				return []App{mail(place("web.1", "mail-1"))}
			},
			want:     []string{"25 mail:"},
			problems: []string{"dokku expose:set mail upstream published"},
		}, {
			name: "two apps on the host's network with one private port: the one that is served goes on",
			arrange: func(s *scene) []App {
				s.onHostNetwork("mail-1", "web.1")
				s.onHostNetwork("chat-1", "web.1")
				s.serves(25, "mail", "127.0.0.1:15025")
				chat := App{Name: "chat", Places: []Place{place("web.1", "chat-1")}, Operator: []Claim{claim("chat", 26, 15025, "web")}}
				return []App{mail(place("web.1", "mail-1")), chat}
			},
			want:     []string{"26 chat:", "25 mail: web.1=mail-1@15025?"},
			problems: []string{"mail has a container on the host's network with that private port, too"},
		}, {
			name: "nobody knows who listens where two apps on the host's network have one private port",
			arrange: func(s *scene) []App {
				s.onHostNetwork("mail-1", "web.1")
				s.onHostNetwork("chat-1", "web.1")
				s.serves(27, "mail", "127.0.0.1:17025")
				s.serves(28, "chat", "127.0.0.1:17025")
				chat := App{Name: "chat", Places: []Place{place("web.1", "chat-1")}, Operator: []Claim{claim("chat", 28, 17025, "web")}}
				m := App{Name: "mail", Places: []Place{place("web.1", "mail-1")}, Operator: []Claim{claim("mail", 27, 17025, "web")}}
				return []App{m, chat}
			},
			want:     []string{"28 chat:", "27 mail:"},
			problems: []string{"chat has a container", "mail has a container"},
		}, {
			name: "a container without an address of the kind that is wanted serves on at the one that it has",
			arrange: func(s *scene) []App {
				s.container("mail-1", imageA, "web.1", 1, 15025)
				s.serves(25, "mail", "127.9.0.1:15025")
				a := mail(place("web.1", "mail-1"))
				a.Upstream = UpstreamPublished
				return []App{a}
			},
			want:     []string{"25 mail: web.1=mail-1@15025?"},
			problems: []string{ErrAddressKept.Error()},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := new(scene)
			s.expect(t, tt.want, tt.problems, tt.arrange(s)...)
		})
	}
}

func TestConfirmedKeepsOnlyWhatIsServedAndStillTheApps(t *testing.T) {
	s := new(scene)
	s.container("mail-1", imageA, "web.1", 1, 15025)
	s.container("mail-2", imageA, "web.2", 2, 15025)
	s.container("other-1", imageA, "web.1", 3, 15025)
	s.container("mail-4", imageA, "web.4", 4)
	s.stop("mail-2")
	// Served are one that lives, one that has stopped, and an address that another app has now.
	s.serves(25, "mail", "127.9.0.1:15025", "127.9.0.2:15025", "127.9.0.3:15025")
	s.serves(99, "gone", "127.9.0.1:15025")
	a := mail(place("web.1", "mail-1"), place("web.2", "mail-2"), place("web.4", "mail-4"))
	a.Operator = []Claim{claim("mail", 70, 17000, "web")}
	want := []string{"25 mail: web.1=mail-1@15025?"}
	if got := lines(confirmed(s.snapshot(a))); !slices.Equal(got, want) {
		t.Errorf("table:\n got %q\nwant %q", got, want)
	}
}
