// Package settings keeps what operators set: one TOML file for the host and one for each app, edited by hand or by
// `expose:set`, `expose:add` and `expose:disable`.
//
//	# apps/mail.toml
//	hold = "30s"            # the mailboxes take a while to open
//	allowed-ports = "25,993"
//	mappings = [
//	  "25:5025",
//	  "993:5993 process=imap",
//	]
//
// Each setting is one row of a table (keys): its name, where it can be set, its default, and how its text becomes a
// value. [Store.Effective] gives the values in force for an app, [Store.Explain] says where each comes from. What can't be
// right is refused with file and line; an error in an app's file is an error of that app only, one in the host's file is
// one of all apps, since no app's settings are known without it. Commands change only the lines that they are about: no
// comment is ever lost, and a file whose edit would come out otherwise than meant is left alone.
//
// The caller holds a lock: two writers at once would undo each other's change. Readers need none.
//
// The package knows how settings are written and what values they can have, not what comes of them.
package settings
