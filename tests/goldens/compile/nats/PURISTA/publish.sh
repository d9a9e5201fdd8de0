#!/bin/sh
# Creates or updates the stream and publishes its schedules, with the nats command (natscli 0.2 or later).
# It connects as that command does: NATS_URL, NATS_CREDS, NATS_CONTEXT, ...
# A schedule is purged and published anew, so run it when nothing is due in the same second.
set -eu
cd "$(dirname "$0")"
stream=PURISTA

publish() {
  subject=$1
  shift
  nats publish "$subject" "" --jetstream --quiet "$@"
}
replace() { nats stream purge "$stream" --subject "$1" --force >/dev/null; }
is_before() { [ "$(date -u +%Y%m%d%H%M%S)" -lt "$1" ]; }

if found=$(nats stream info "$stream" --json 2>/dev/null); then
  case "$(printf %s "$found" | tr -d '[:space:]')" in
    *'"managed-by":"purista"'*) nats stream edit "$stream" --config stream.json --force >/dev/null ;;
    *)
      printf '%s\n' "stream $stream is none of purista's: left alone" >&2
      exit 1
      ;;
  esac
else
  nats stream add "$stream" --config stream.json >/dev/null
fi

replace 'purista.schedules.Billing.v1.monthlyBillingCycle.*'
publish purista.schedules.Billing.v1.monthlyBillingCycle.1 \
  --header 'Nats-Schedule:0 0 2 1 * *' \
  --header Nats-Schedule-Time-Zone:Europe/Berlin \
  --header Nats-Schedule-Target:purista.triggers \
  --header 'Purista:purista: Billing.v1.monthlyBillingCycle ca35fe65a7b159a5' \
  --header 'Purista-Description:Trigger monthly billing on the 1st' \
  --header ce-specversion:1.0 \
  --header ce-type:dev.purista.schedule.trigger \
  --header ce-source:nats/PURISTA \
  --header ce-subject:Billing.v1.monthlyBillingCycle \
  --header ce-puristafingerprint:ca35fe65a7b159a5 \
  --header ce-puristaslots:3600+0

replace 'purista.schedules.Billing.v1.monthlyReports.*'
publish purista.schedules.Billing.v1.monthlyReports.1 \
  --header 'Nats-Schedule:0 0 4 1 * *' \
  --header Nats-Schedule-Time-Zone:Europe/Berlin \
  --header Nats-Schedule-Target:purista.triggers \
  --header Nats-Schedule-TTL:259200s \
  --header 'Purista:purista: Billing.v1.monthlyReports 6ad096650590dd1f' \
  --header 'Purista-Description:Render last month'"'"'s reports' \
  --header ce-specversion:1.0 \
  --header ce-type:dev.purista.schedule.trigger \
  --header ce-source:nats/PURISTA \
  --header ce-subject:Billing.v1.monthlyReports \
  --header ce-puristafingerprint:6ad096650590dd1f \
  --header ce-puristaslots:3600+0

replace 'purista.schedules.Billing.v1.purgeDrafts.*'
publish purista.schedules.Billing.v1.purgeDrafts.1 \
  --header 'Nats-Schedule:0 0 */6 * * *' \
  --header Nats-Schedule-Target:purista.triggers \
  --header Nats-Schedule-TTL:86400s \
  --header 'Purista:purista: Billing.v1.purgeDrafts 698ad3f331dec394' \
  --header 'Purista-Description:Delete abandoned drafts' \
  --header ce-specversion:1.0 \
  --header ce-type:dev.purista.schedule.trigger \
  --header ce-source:nats/PURISTA \
  --header ce-subject:Billing.v1.purgeDrafts \
  --header ce-puristafingerprint:698ad3f331dec394 \
  --header ce-puristaslots:21600+0
