-- Observe everything again now.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["golive.dev/reconcile-requested-at"] = os.date("!%Y-%m-%dT%XZ")
return obj
