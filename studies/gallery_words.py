"""What docs/gallery.md says that no method says of itself: the families, and when to use which method."""

FAMILIES = {
    "Gradients": (
        "One pass forward, one back: how the score changes where the image does.",
        {
            "saliency": "as the cheapest first look, and as the raw matter of other methods; `smooth` makes it readable.",
            "input_x_gradient": "where zero truly means nothing (a scan standardized about zero has no such zero).",
            "smooth": "to calm a grainy map of any other method; `statistic='square'` shows where rather than for or against.",
        },
    ),
    "Paths": (
        "Slopes gathered on the whole way from an image without a finding to the scan; most account for the full difference of the score.",
        {
            "integrated_gradients": "when shares must add up to the score gained; then try a second baseline, since the answer depends on it.",
            "expected_gradients": "when no single baseline is neutral but a set of healthy scans is at hand.",
            "guided_ig": "when integrated gradients is grainy: its way avoids regions of steep, unrelated slope.",
            "blur_ig": "when no baseline value is neutral, and to learn at which scale (millimeters) the network sees the finding.",
            "conductance": "to divide the score gained among the units of a layer (`site=`, here the last feature map).",
            "internal_influence": "to learn which units of a layer the score listens to (`site=`, here the last feature map).",
            "influential_neurons": "to find the few units of a layer that decide, and what they look at in this image.",
        },
    ),
    "Class activation maps": (
        "Which places of the last feature map speak for the class: coarse and cheap. A map has the grid of the features; "
        "the pictures read it off between its cells.",
        {
            "cam": "when the network ends in global average pooling and one linear layer: then it is exact.",
            "grad_cam": "as the usual coarse answer for any network with feature maps.",
            "grad_cam_plus_plus": "when several places carry the sign and Grad-CAM shows one.",
            "xgrad_cam": "as Grad-CAM, when the weights should keep the score's account.",
            "hires_cam": "instead of Grad-CAM when both signs matter: it never mixes places.",
            "layer_cam": "at earlier, finer layers (`site=`), where Grad-CAM means little.",
            "score_cam": "when gradients are noisy or saturated and a pass for every channel is affordable.",
            "ablation_cam": "likewise, asking what is lost without a channel.",
            "eigen_cam": "to see what the features hold, whatever the class; never as a reason.",
            "guided_grad_cam": "for a fine picture in talks; read the place from the coarse map alone.",
        },
    ),
    "Rules on the way back": (
        "The score is handed back operation by operation under a rule that is not the gradient.",
        {
            "guided_backprop": "to see which fine structures excite a unit (give a neuron as target); not as evidence.",
            "deconvnet": "to see what pattern a unit answers to; not as evidence.",
            "deeplift": "as a cheap answer that adds up against one reference: two forward passes and one back.",
            "deep_shap": "as DeepLIFT, against a set of healthy references.",
            "lrp": "for sharp, calm maps of deep networks that keep the score's account; choose the composite for the network.",
            "deep_taylor": "when only what speaks for a positive score is wanted.",
            "excitation_backprop": "for a probability of where the excitation comes from; `contrastive=True` to tell classes apart.",
            "pattern_net": "to see the signal itself rather than the filter that finds it; needs images like these.",
            "pattern_attribution": "to see how much that signal adds; needs images like these.",
        },
    ),
    "Perturbations": (
        "Parts of the image are hidden and the score is read again: no gradient is trusted, many passes are paid.",
        {
            "occlusion": "as the plainest check of any other map: what falls when this window is hidden? Give the window in millimeters.",
            "rise": "when the network is a black box and the finding may be anywhere; more masks, less grain.",
            "meaningful_perturbation": "to find the smallest region that takes the finding away.",
            "extremal_perturbation": "to find the region of a chosen size that suffices for the finding.",
        },
    ),
    "Regions": (
        "Superpixels, or supervoxels, are judged as wholes: as coarse as the segments, easy to say in words.",
        {
            "lime": "to name the few regions that a linear account of the score needs.",
            "kernel_shap": "when regions must share the score out fairly (Shapley values).",
            "xrai": "to turn a grainy map into ranked regions.",
        },
    ),
    "Attention": (
        "For transformers.",
        {
            "attention_rollout": "to see what is attended to at all, the same for every class; not as a reason.",
            "transformer_attribution": "as the answer for a class of a transformer: what is attended to and what it is worth.",
        },
    ),
}
REMARKS = {  # what a picture needs said
    "cam": "In the brain the mean over the whole map counts tissue: tissue speaks against atrophy, empty space for it, wherever it is",
    "rise": "Asked of the probability; drawn above its lowest value, since the level of such a map means nothing",
    "extremal_perturbation": "The descent was cut short (its default is 800 steps): outside the region the mask has not come down to 0",
    "pattern_net": "Colors show shape and sign alone: the scale of a deep network's pattern means nothing",
}
SOUND = "On a spectrogram"
SOUND_TEXT = """The same methods on a picture whose axes are hertz and seconds: one synthetic clip with a violin, before the network that hears music,
violins, strings, bowls and sines. Target: violin. Blur IG blurs along frequency alone, occlusion hides windows of 8 bands and 8 frames."""
HEAD = """# Gallery

Every method on three synthetic patients with known causes, before the small networks that ship with Pellucid: a fundus photograph (target:
diabetic macular edema; the cause is the hard exudates at the fovea), a chest radiograph (pleural effusion, the lower corner of a lung) and a
brain volume (atrophy: wide ventricles, small hippocampi). Orange is above zero, blue below, zero is clear: for and against the target
where a method has signs (its text says so), more and less where it has none. Each map has its own scale,
written under it in the method's unit; **> and <** say that a thousandth of the samples lies beyond. Volumes are cut through the middle of the
cause, shown as three planes. *Cause 9 times chance*: the share of positive relevance inside the cause is 9 times the cause's share of the image.
One case tells little: [phantoms.md](phantoms.md) measures many, [methods.md](methods.md) says of each method what it computes.

![The three scans](gallery/scans.png)
![Where the known cause of each label lies](gallery/causes.png)

| family | methods |
| --- | --- |
""" + "\n".join(
    f"| [{family}](#{family.lower().replace(' ', '-')}) | {', '.join(f'[`{m}`](#{m})' for m in methods)} |"
    for family, (_, methods) in FAMILIES.items()
)
