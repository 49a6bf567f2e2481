"""Plain English words for made texts, and names of two of them.

The lists are our own; RULER takes its words from the package wonderwords. No word is part of
another, so that a reply that contains one was meant.
"""

_NOUNS = """
    acorn airport album amber anchor angle ankle apple apron archer arena artist atlas attic
    aunt author avenue axle badge baker balcony ball bamboo banana banner barn barrel basin
    basket bath beach beacon bean beard beaver bed beetle bell belt bench berry bicycle bird
    biscuit blanket boat bolt bone boot border bottle bowl box bracelet branch brass bread brick
    bridge broom brother brush bucket bud builder bulb bush butter button cabbage cabin cable
    cactus cage cake camel camera camp canal candle canoe canvas captain carpet carrot cart
    castle cave cedar cellar chain chair chalk chapel cheese cherry chess chest chicken chimney
    church circle circus city clay cliff clock cloth cloud clover coach coal coast coat coconut
    coffee coin comet compass cook copper coral cork cottage cotton couch cousin cow crab cradle
    crane crayon cream cricket crown crystal cup curtain cushion dancer daughter deer dentist
    desert desk diamond diary dinner dish doctor dog doll dolphin donkey door dragon drawer
    dress driver drum duck dune eagle earth easel echo egg elbow elephant engine envelope fabric
    factory falcon farmer feather fence fern ferry fiddle field finger fire fish flag flame
    flask flock flood floor flour flower flute forest fork fountain fox frame frog fruit furnace
    galaxy garage garden garlic gate giant ginger giraffe girl glacier glass glove glue goat
    goose grain grape grass gravel grove guard guest guitar hall hammer harbor hat hawk hazel
    hedge helmet herb heron hill hinge hive holiday honey hood hoof hook horn horse hotel hunter
    hut igloo iron island ivory ivy jacket jam jar jelly jewel judge juice jungle kettle king
    kitchen kite kitten knife knight knot ladder ladle lake lamb lamp lantern laundry lawn
    lawyer leaf leather lemon lens letter library lily lion lizard lobster locket log lunch
    magnet maple marble market marsh mask mast meadow medal melon mercury meteor metal milk mill
    miner mirror mitten mole monkey moon moose moss moth motor mountain mouse museum mushroom
    music napkin necklace needle neighbor nephew nickel niece noodle nose notebook nurse oak oar
    oasis ocean office olive onion orange orchard organ oven oyster paddle page paint palace
    palm panda paper parade parcel park parrot pasture path peach peacock peanut pearl pebble
    pedal pencil penguin pepper piano picnic picture pie pigeon pillow pilot pine pipe pirate
    pitcher planet plate plow plum pocket poem poet pole pond pony porch potato pottery powder
    prince pumpkin puppet puppy puzzle pyramid queen quilt rabbit radio raft rail raven razor
    reef ribbon rice robin rocket roof root rose rug ruler saddle sailor salad salmon sandal
    satin saw scale scarf school scissors screen seal seed shadow shark sheep shelf shell
    shepherd ship shirt shoe shore shovel sibling silk silver singer sister skirt sky sled
    sleeve slipper snail snake snow soap sock sofa soil soldier soup spade sparrow spice spider
    spinach spoon spring squirrel stable stamp star statue steam steel stem stone stool storm
    stove straw stream street sugar suit summer swan sweater tablet tailor tape teacher temple
    tent thimble thread throne thumb ticket tide tiger tile timber toast tomato tongue tooth
    torch towel tower town toy track tractor train trumpet trunk tulip tunnel turkey turtle twig
    uncle valley vase velvet village vine violet violin wagon waiter wall walnut walrus
    warehouse water wave wheat wheel whistle willow window wing winter wire wolf wool wreath
    wrist yacht yard yarn zebra zipper
"""
_ADJECTIVES = """
    ample ancient angry awake aware bald basic bitter bland blind blunt bold brave breezy brief
    bright brisk broad broken busy calm careful caring cheap cheerful clean clear clever clumsy
    cold common cool costly crisp crooked curious curly curved daily damp dark dear deep
    delicate dense dim dirty distant dizzy dull dusty eager early eastern easy elegant empty
    exact faint fair famous fancy fast fearless fierce final fine firm flat foggy formal fragile
    free fresh friendly frosty full funny gentle gifted glad gloomy golden good graceful grand
    grateful great green handy happy harsh healthy heavy helpful hidden high hollow honest huge
    humble hungry ideal idle jolly joyful juicy keen kind large lasting lazy level light likely
    little lively local lonely loose lovely loyal lucky mature meek mellow merry mighty mild
    misty modern modest moist muddy narrow nasty neat nervous nimble noble noisy northern novel
    odd open orderly outer oval pale patient perfect playful pleasant polite poor precious
    pretty prime private prompt proper proud pure quick quiet rapid rare ready recent regular
    rich ripe robust rocky rough round royal rude safe salty scarce secret serious shaky sharp
    shiny short shy silent silly simple sincere sleepy slim slow small smart smooth soft solid
    sour southern spare spicy square steady steep sticky stiff still strange strict strong
    sturdy subtle sudden sunny super sweet swift tall tame tasty tender thick tidy tight tiny
    tired tough trusty twin upper urban useful usual vague valid vast vital warm weak weary
    western wet whole wide wild windy wise wonderful wooden worthy young
"""
_VERBS = """
    accept achieve adapt admire admit adopt advise afford agree allow amuse announce answer
    appear apply argue arrive assist attach attend avoid balance begin behave believe belong
    bend blend borrow bounce breathe bring burn calculate carry catch celebrate choose clap
    climb collect combine compare compete complain compose connect consider contain continue
    convince copy count create cure decide declare decorate defend deliver depend describe
    deserve destroy discover discuss divide doubt dream drift educate employ encourage enjoy
    enter escape examine excuse exist expand explain explore fetch fill float fold follow forget
    forgive gather greet grow guess guide happen hear hesitate imagine improve include increase
    inform inspect invent invite join jump juggle kneel knit know laugh launch learn listen lose
    manage measure melt mend mention mix multiply notice obey observe obtain offer operate
    paddle perform permit persuade polish pour practise praise prefer prepare pretend prevent
    produce promise protect pull push reach realize receive recognize reduce refuse remember
    remind remove repair repeat replace reply rescue return reveal scatter search seek send sew
    share shine shrink sneeze solve speak spend spill stretch succeed suggest supply support
    swim think throw travel understand unite vanish visit wander warn wash weigh welcome whisper
    wrap write yawn yell
"""
NOUNS, ADJECTIVES, VERBS = (tuple(words.split()) for words in (_NOUNS, _ADJECTIVES, _VERBS))
#: Each once, in the order of the alphabet.
SINGLE = tuple(sorted({*NOUNS, *ADJECTIVES, *VERBS}))
#: Some hundred thousand names such as `brave-river`.
PAIRS = tuple(f"{adjective}-{noun}" for adjective in ADJECTIVES for noun in NOUNS)
